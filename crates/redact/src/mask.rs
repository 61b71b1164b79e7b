//! Replacing what was found by pseudonyms that are consistent within one masker.

use std::{borrow::Cow, collections::BTreeMap, sync::LazyLock};

use regex::Regex;

use crate::{Kind, Named, Redactor, Span, json, names};

/// Masks texts that belong together, numbering each kind in order of first appearance.
#[derive(Debug, Clone)]
pub struct Masker {
    redactor: Redactor,
    /// What it was told to mask wherever it occurs.
    known: Vec<Named>,
    /// Which name a spelling stands for, where that is another one.
    forms: BTreeMap<(Kind, String), String>,
    pseudonyms: BTreeMap<(Kind, String), usize>,
    /// The highest number in use, ours or one the text already held.
    highest: BTreeMap<Kind, usize>,
    counts: BTreeMap<Kind, u64>,
    /// What each pseudonym of ours stands for, as it was first spelt.
    originals: BTreeMap<String, String>,
}

impl Masker {
    pub(crate) fn new(redactor: Redactor) -> Self {
        Self {
            redactor,
            known: Vec::new(),
            forms: BTreeMap::new(),
            pseudonyms: BTreeMap::new(),
            highest: BTreeMap::new(),
            counts: BTreeMap::new(),
            originals: BTreeMap::new(),
        }
    }

    /// The text with everything the policy names replaced. When the whole text is a JSON object or
    /// array, its values and keys are masked one by one and its spelling is otherwise kept.
    pub fn mask(&mut self, text: &str) -> String {
        self.reserve_foreign(text);
        let rewritten = json::rewrite_values(text, &mut |key, value| self.mask_value(key, value));
        rewritten.unwrap_or_else(|| self.replace("", text))
    }

    /// The same of JSON, which stays JSON of its shape: a definition of a tool, say, whose choices can
    /// be somebody's addresses.
    pub fn mask_json(&mut self, value: &serde_json::Value) -> serde_json::Value {
        serde_json::from_str(&self.mask(&value.to_string())).unwrap_or_default()
    }

    /// Has this masked from here on, wherever it stands as a word of its own.
    pub fn know(&mut self, named: Named) {
        if !named.text.trim().is_empty() && !self.known.contains(&named) {
            self.known.push(named);
        }
    }

    /// The same by the pseudonym of `whom`, of whose name this is a spelling. One that stands for two
    /// names has the pseudonym of the first.
    pub fn know_as(&mut self, named: Named, whom: &str) {
        let spelling = (named.kind, normalised(named.kind, &named.text));
        let whom = normalised(named.kind, whom);
        if spelling.1 != whom {
            self.forms.entry(spelling).or_insert(whom);
        }
        self.know(named);
    }

    /// What it would mask in a plain text, by pattern and by what is known, in order and without
    /// overlaps: a pattern wins over a name, and the longer name over the shorter.
    pub fn find(&self, text: &str) -> Vec<Span> {
        let mut found = self.redactor.find(text);
        let named = names::occurrences(&self.known, text);
        let free = |span: &Span, found: &[Span]| {
            found.iter().all(|other| span.end <= other.start || other.end <= span.start)
        };
        for span in named {
            // Within a pseudonym there is nobody's name.
            if free(&span, &found) && !within_pseudonym(text, span) {
                found.push(span);
            }
        }
        found.sort_by_key(|span| span.start);
        found
    }

    /// How often each kind was replaced so far.
    pub fn counts(&self) -> &BTreeMap<Kind, u64> {
        &self.counts
    }

    /// What its pseudonyms stand for: for whoever has to undo it, and to be kept nowhere.
    pub fn originals(&self) -> &BTreeMap<String, String> {
        &self.originals
    }

    fn mask_value(&mut self, key: &str, value: json::Value<'_>) -> Option<String> {
        match value {
            json::Value::Text(text) => {
                let nested =
                    json::rewrite_values(text, &mut |key, value| self.mask_value(key, value));
                let masked = nested.unwrap_or_else(|| self.replace(key, text));
                (masked != text).then_some(masked)
            }
            // A list by address, or by anything else that somebody is found by.
            json::Value::Key(name) => {
                let masked = self.replace("", name);
                (masked != name).then_some(masked)
            }
            // A number is replaced only as a whole: half a number is no JSON.
            json::Value::Number(digits) => {
                let (context, offset) = with_key(key, digits);
                let spans = self.find(&context);
                let whole = spans.iter().find(|s| s.start == offset && s.end == context.len())?;
                Some(self.pseudonym(whole.kind, digits))
            }
        }
    }

    /// Replaces within plain text; the JSON key it stood under is context for the detectors.
    fn replace(&mut self, key: &str, text: &str) -> String {
        let mut masked = text.to_owned();
        // What is gone may have hidden something: a number that ran into an address, say.
        // Every round leaves less unmasked text, so there is a last one.
        loop {
            let (context, offset) = with_key(key, &masked);
            let mut spans = self.find(&context);
            spans.retain(|span| span.start >= offset);
            if spans.is_empty() {
                return masked;
            }
            masked.clear();
            let mut done = offset;
            for span in spans {
                masked.push_str(&context[done..span.start]);
                masked.push_str(&self.pseudonym(span.kind, &context[span.start..span.end]));
                done = span.end;
            }
            masked.push_str(&context[done..]);
        }
    }

    fn pseudonym(&mut self, kind: Kind, value: &str) -> String {
        let highest = self.highest.entry(kind).or_default();
        let spelling = (kind, normalised(kind, value));
        let named = self.forms.get(&spelling).cloned().unwrap_or(spelling.1);
        let number = self.pseudonyms.entry((kind, named)).or_insert_with(|| {
            *highest += 1;
            *highest
        });
        *self.counts.entry(kind).or_default() += 1;
        let pseudonym = format!("<{}_{number}>", kind.as_str().to_uppercase());
        self.originals.entry(pseudonym.clone()).or_insert_with(|| value.to_owned());
        pseudonym
    }

    /// A client may have masked before us: its `<EMAIL_1>` must not come to mean somebody else.
    fn reserve_foreign(&mut self, text: &str) {
        for found in PSEUDONYM.captures_iter(text) {
            let kind = Kind::ALL.into_iter().find(|k| k.as_str().eq_ignore_ascii_case(&found[1]));
            if let (Some(kind), Ok(number)) = (kind, found[2].parse::<usize>()) {
                let highest = self.highest.entry(kind).or_default();
                *highest = number.max(*highest);
            }
        }
    }
}

/// The text with `<EMAIL>` for every `<EMAIL_3>`: what two maskings of one text have in common.
pub fn without_numbers(text: &str) -> Cow<'_, str> {
    PSEUDONYM.replace_all(text, "<$1>")
}

static PSEUDONYM: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        "<(SECRET|IBAN|EMAIL|CARD|SSN|IP|URL|PHONE|PERSON|LOCATION|ORGANIZATION)_([0-9]{1,6})>",
    )
    .expect("is a valid pattern")
});

fn within_pseudonym(text: &str, span: Span) -> bool {
    PSEUDONYM.find_iter(text).any(|one| one.start() < span.end && span.start < one.end())
}

fn with_key(key: &str, text: &str) -> (String, usize) {
    if key.is_empty() {
        return (text.to_owned(), 0);
    }
    let context = format!("{key}: {text}");
    let offset = context.len() - text.len();
    (context, offset)
}

/// Two spellings of one number or address are one value.
fn normalised(kind: Kind, value: &str) -> String {
    match kind {
        Kind::Secret | Kind::Url => value.to_owned(),
        Kind::Email | Kind::Ip | Kind::Person | Kind::Location | Kind::Organization => {
            value.to_lowercase()
        }
        Kind::Iban => {
            let letters = value.chars().filter(char::is_ascii_alphanumeric);
            letters.map(|c| c.to_ascii_uppercase()).collect()
        }
        Kind::Card | Kind::Ssn | Kind::Phone => {
            value.chars().filter(char::is_ascii_digit).collect()
        }
    }
}
