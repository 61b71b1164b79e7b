//! Telephone numbers.
//!
//! Half of the world's numbers are indistinguishable from order numbers, dates and prices, so a
//! shape counts alone only where no other number is written that way; the rest needs a word such as
//! `call` or `fax` nearby, and a nearer word such as `order` or `invoice` outweighs it.

use std::sync::LazyLock;

use regex::Regex;

use super::context;
use crate::{Kind, Span};

/// Words that make a plain group of digits a telephone number.
const PHONE_WORDS: &str = "\
    answering call callback called calling calls cell cellphone contact desk dial fax hotline \
    landline message messages mobile móvil office phone phones reach ring sms tel telefon \
    telefono telephone texting tlf voicemail whatsapp";

/// Words that say a number is something else.
const OTHER_WORDS: &str = "\
    amount article barcode batch booking build case code confirmation contract cost date ean \
    euro euros id imei invoice isbn item licence license lot model order orders parcel part \
    payment pin postcode price product receipt ref reference reservation serial shipment sku \
    ticket total tracking version zip";

/// Units that make the number before them an amount.
const UNITS: &str = "\
    bytes chf dollars eur euro euros gbp items kr ms people units usd users";

/// How much a shape says by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// Nothing else is written like this.
    Certain,
    /// A telephone number unless the text says otherwise.
    Likely,
    /// A telephone number only if the text says so.
    Possible,
}

struct Shape {
    pattern: Regex,
    trust: Trust,
    /// Fewest and most digits, extension not counted.
    digits: (usize, usize),
}

static SHAPES: LazyLock<[Shape; 7]> = LazyLock::new(|| {
    let shape = |pattern: &str, trust, digits| Shape {
        pattern: Regex::new(&format!(r"(?:{pattern})(?P<ext>(?i: ?(?:x|ext\.?) ?)[0-9]{{1,6}})?"))
            .expect("is a valid pattern"),
        trust,
        digits,
    };
    [
        // +46 (0)8 928 571 38
        shape(
            r"\+[1-9][0-9]{0,2}(?:[ .-]?\([0-9]{1,4}\))?(?:[ .-]?[0-9]{1,10}){1,6}",
            Trust::Certain,
            (8, 15),
        ),
        // 001-518-640-0854
        shape(r"00[1-9][0-9]{0,2}(?:[ .-][0-9]{2,5}){2,5}", Trust::Likely, (10, 15)),
        // 905-674-3793, (579)888-3058
        shape(
            r"(?:1[ .-])?(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[.-])[0-9]{3}[ .-][0-9]{4}",
            Trust::Likely,
            (10, 11),
        ),
        // (08) 8747 6301
        shape(r"\([0-9]{2,4}\) ?[0-9]{3,4}[ -][0-9]{3,4}", Trust::Likely, (8, 11)),
        // 0490 75 40 81, 03.93.92.16.85
        shape(r"0[0-9]{1,4}(?:[ .-][0-9]{2,4}){2,4}", Trust::Likely, (9, 11)),
        // 07700 900123
        shape("0[0-9]{2,4} [0-9]{6,8}", Trust::Likely, (10, 11)),
        // 467 3395, 9498777106
        shape(r"[0-9]{2,5}(?:[ .-][0-9]{2,7}){1,4}|[0-9]{7,12}", Trust::Possible, (7, 13)),
    ]
});

pub(super) fn find(text: &str, found: &mut Vec<Span>) {
    // Every match holds a run of digits; most texts hold none worth seven patterns.
    if text.bytes().filter(u8::is_ascii_digit).count() < 7 {
        return;
    }
    for shape in SHAPES.iter() {
        let mut from = 0;
        while let Some(captures) = shape.pattern.captures_at(text, from) {
            let Some(whole) = captures.get(0) else { break };
            let (start, end) = (whole.start(), whole.end());
            let body = captures.name("ext").map_or(end, |ext| ext.start());
            if shape.accepts(text, start, body, end) {
                found.push(Span { kind: Kind::Phone, start, end });
                from = end;
            } else {
                // What was refused may hide a number that begins at one of its later groups.
                let digits = text[start..].bytes().take_while(u8::is_ascii_digit).count();
                from = start + digits.max(1);
            }
        }
    }
}

impl Shape {
    /// `body` is where an extension begins, or the end.
    fn accepts(&self, text: &str, start: usize, body: usize, end: usize) -> bool {
        let number = &text[start..body];
        let digits = number.bytes().filter(u8::is_ascii_digit).count();
        if !(self.digits.0..=self.digits.1).contains(&digits)
            || !stands_alone(text, start, end)
            || is_amount(text, end)
        {
            return false;
        }
        let said = says(text, start, end);
        let has_extension = body < end;
        let written_like_one = has_extension || is_evenly_separated(number);
        match self.trust {
            Trust::Certain => true,
            Trust::Likely => written_like_one && !is_something_else(number) && said != Some(false),
            Trust::Possible => {
                let spoken_of = has_extension || said == Some(true);
                written_like_one && !is_something_else(number) && spoken_of
            }
        }
    }
}

/// What the nearest telling word says: a telephone, something else, or nothing.
fn says(text: &str, start: usize, end: usize) -> Option<bool> {
    // In "order A-4821: 202-555-0143" the order has its number already.
    let spent = text[..start].rfind(|c: char| c.is_ascii_digit()).unwrap_or(0);
    let unspent = context::words_before(&text[spent..], start - spent).len();
    let before = context::words_before(text, start).into_iter().enumerate();
    let before = before.map(|(nth, word)| (word, nth < unspent));
    let nearby = before.chain(context::word_after(text, end).map(|word| (word, true)));
    nearby.into_iter().find_map(|(word, is_unspent)| {
        if context::lists(PHONE_WORDS, &word) {
            Some(true)
        } else {
            (is_unspent && context::lists(OTHER_WORDS, &word)).then_some(false)
        }
    })
}

/// Not the inside of a longer number, an identifier or a path.
fn stands_alone(text: &str, start: usize, end: usize) -> bool {
    let mut before = text[..start].chars().rev();
    let glued_before = match (before.next(), before.next()) {
        (Some(c), _) if c.is_alphanumeric() => true,
        (Some('#' | '$' | '€' | '£' | '¥' | '_' | '@' | '/' | '<' | '*'), _) => true,
        (Some('.' | '-' | ',' | '+'), Some(c)) => c.is_alphanumeric(),
        (Some(':'), Some(c)) => c.is_ascii_digit(),
        // A number in groups may have begun before this one.
        (Some(' '), Some(c)) => c.is_ascii_digit() && text[start..end].contains(' '),
        _ => false,
    };
    let mut after = text[end..].chars();
    let glued_after = match (after.next(), after.next()) {
        (Some(c), _) if c.is_alphanumeric() => true,
        (Some('%' | '$' | '€' | '£' | '¥' | '_' | '@' | '/' | '*'), _) => true,
        (Some('.' | '-' | ',' | ':'), Some(c)) => c.is_ascii_digit(),
        _ => false,
    };
    !glued_before && !glued_after
}

fn is_amount(text: &str, end: usize) -> bool {
    context::word_after(text, end).is_some_and(|word| {
        context::lists(UNITS, &word) && text[end..].trim_start().to_lowercase().starts_with(&word)
    })
}

/// Dates with a time, and lists of numbers, mix their separators; telephone numbers rarely do.
fn is_evenly_separated(number: &str) -> bool {
    if number.contains('(') {
        return true;
    }
    let mut separators = number.chars().filter(|c| !c.is_ascii_digit());
    let first = separators.next();
    separators.all(|c| Some(c) == first)
}

/// Dates, years, addresses of machines, social security numbers.
fn is_something_else(number: &str) -> bool {
    let groups: Vec<&str> = number.split(|c: char| !c.is_ascii_digit()).collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    let value = |nth: usize| groups[nth].parse::<u64>().unwrap_or(u64::MAX);
    let is_year = |nth: usize| (1900..2100).contains(&value(nth));
    match lengths.as_slice() {
        [4, 2, 2] => is_year(0) && value(1) <= 12 && value(2) <= 31,
        [2, 2, 4] => is_year(2) && value(0) <= 31 && value(1) <= 31,
        [4, 4] => is_year(0) && is_year(1),
        // 20240512
        [8] => (1900..2100).contains(&(value(0) / 10_000)) && value(0) / 100 % 100 <= 12,
        [3, 2, 4] => number.contains('-'),
        [_, _, _, _] => number.contains('.') && (0..4).all(|nth| value(nth) <= 255),
        _ => false,
    }
}
