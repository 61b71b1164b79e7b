//! Addresses, and places by what is said before them.

use std::sync::LazyLock;

use regex::Regex;

use super::{Run, words};
use crate::{Kind, Named};

/// What the last word of an English street is.
const TYPES: &[&str] = &[
    "street",
    "st",
    "avenue",
    "ave",
    "road",
    "rd",
    "boulevard",
    "blvd",
    "lane",
    "ln",
    "drive",
    "dr",
    "court",
    "ct",
    "place",
    "terrace",
    "square",
    "way",
    "parkway",
    "highway",
    "crescent",
    "close",
    "row",
];

/// What a street's one word ends in elsewhere, before the number.
const ENDINGS: &[&str] = &[
    "straße", "strasse", "gasse", "platz", "weg", "gata", "gatan", "gade", "vej", "vegen", "tie",
    "katu",
];

/// What a street begins with elsewhere.
const BEGINNINGS: &[&str] = &[
    "Rua", "Rúa", "Rue", "Via", "Vicolo", "Calle", "Avenida", "Plaza", "Piazza", "Strada", "Avenue",
];

const CUES: &[&str] = &[
    "live in",
    "lives in",
    "lived in",
    "living in",
    "born in",
    "based in",
    "located in",
    "grew up in",
    "resident of",
    "citizen of",
    "moved to",
    "moving to",
    "moved from",
    "moved here from",
    "relocated to",
    "travel to",
    "traveling to",
    "travelling to",
    "travelled to",
    "traveled to",
    "flew to",
    "fly to",
    "flying to",
    "trip to",
    "originally from",
    "come from",
    "comes from",
    "i'm from",
    "i am from",
    "arrived in",
    "arrived at",
    "visit",
    "visiting",
    "offices in",
    "office in",
    "home city",
    "hometown",
    "i am in",
    "i'm in",
];

const LABELS: &[&str] = &[
    "city",
    "town",
    "address",
    "address1",
    "address2",
    "street",
    "street address",
    "home address",
    "place of birth",
    "birthplace",
    "hometown",
];

/// Besides what is a run: apartments, boxes, cities with state and code, codes, countries.
pub(super) fn by_pattern(text: &str) -> Vec<Named> {
    let found = PATTERNS.iter().flat_map(|pattern| pattern.captures_iter(text));
    let named = found.filter_map(|found| {
        let place = found.name("place")?.as_str();
        Some(Named { kind: Kind::Location, text: place.to_owned() })
    });
    named.collect()
}

static PATTERNS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    let countries = format!(r"\b(?<place>(?:{})(?: [0-9]{{4,6}})?)\b", words::COUNTRIES);
    [
        r"\b(?<place>(?i-u:apt|suite|ste|apartment|flat)\.? #?[0-9]{1,5}[A-Za-z]?)\b",
        r"\b(?<place>(?:PSC|Unit|CMR) [0-9]+,? Box [0-9]+(?:\s+(?:APO|FPO|DPO) A[AEP] [0-9]{5})?)",
        r"(?i)\b(?<place>(?:P\. ?O\. ?|PO ?)Box [0-9]+|Postbox [0-9]+|Postfach [0-9]+)",
        r"(?<place>\b\p{Lu}[\p{L}. ]{1,30},\s*[A-Z]{2},? [0-9]{5}(?:-[0-9]{4})?)\b",
        r"(?i)\b(?:zip|zip code|postcode|postal code)\s*(?:is|:|=|\n)?\s*(?<place>[0-9]{4,6}(?:-[0-9]{4})?)\b",
        countries.as_str(),
    ]
    .iter()
    .map(|pattern| Regex::new(pattern).expect("is a valid pattern"))
    .collect()
});

/// A street that has its number.
pub(super) fn is_street(run: &Run<'_>) -> bool {
    let last = run.words().next_back().unwrap_or_default().to_lowercase();
    let numbered = ends_in_number(run.before());
    let number_follows = starts_with_number(run.after());
    (run.len() > 1 && numbered && TYPES.contains(&last.as_str()))
        || (number_follows && ENDINGS.iter().any(|ending| last.ends_with(ending)))
        || (number_follows && run.words().next().is_some_and(|word| BEGINNINGS.contains(&word)))
        || (numbered && number_follows && closes_line(run.after()))
}

/// A street with the numbers on either side of it.
pub(super) fn with_numbers<'a>(run: &Run<'a>) -> &'a str {
    let before = run.before().trim_end_matches(|c: char| c.is_ascii_digit() || c == ' ');
    let after = run.after().trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ');
    run.wider(run.before().len() - before.len(), run.after().len() - after.len()).trim()
}

pub(super) fn is_one(run: &Run<'_>) -> bool {
    // Airports and tickers go by capitals alone.
    let is_code = run.text().chars().count() < 4 && !run.text().contains(char::is_lowercase);
    let is_labelled = run.label().is_some_and(|label| LABELS.contains(&label.as_str()));
    is_labelled || (!is_code && run.follows(CUES)) || is_below_street(run)
}

/// Alone on its line, or before a code, where the line above is that of an apartment.
fn is_below_street(run: &Run<'_>) -> bool {
    let mut lines = run.before().rsplit('\n');
    let indent = lines.next().unwrap_or_default().trim_matches([' ', '\t', '>', '?', ',']);
    let above = lines.next().unwrap_or_default();
    let rest = run.after().split('\n').next().unwrap_or_default();
    let ends = rest.trim().trim_start_matches(',').is_empty();
    indent.is_empty() && (ends || starts_with_number(rest)) && ENDS_IN_UNIT.is_match(above)
}

static ENDS_IN_UNIT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)\b(?:apt|suite|ste|apartment)\.? #?[0-9]{1,5}[a-z]?,?\s*$").expect("is valid")
});

/// `28245 ` of an address, and neither a price, a date nor an ordinary amount.
fn ends_in_number(before: &str) -> bool {
    let Some(rest) = before.strip_suffix(' ') else { return false };
    let word = rest.rsplit([' ', '\n', '>']).next().unwrap_or_default();
    (1..7).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_digit())
}

fn starts_with_number(after: &str) -> bool {
    after.strip_prefix(' ').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// Whether a house number follows, and then the rest of an address or nothing more on the line.
fn closes_line(after: &str) -> bool {
    let rest = after.trim_start().trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let rest = rest.trim_start_matches([' ', ',']);
    rest.is_empty()
        || rest.starts_with('\n')
        || rest.starts_with("Apt")
        || rest.starts_with("Suite")
}
