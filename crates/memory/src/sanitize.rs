//! The only way from a sentence to a text for every user: three of the five layers of the exclusion.
//!
//! 1. *By construction*: the distiller that works without a model sees [`crate::Skeleton`]s only, and
//!    so does what is sent to a teacher.
//! 2. *Word list*: every word is plain English, in the catalogue, or approved by a person.
//! 3. *Overlap*: no five words and no 24 characters in a row from a source.
//! 4. *Detectors*: personal data, secrets, addresses, numbers, ids, names that sources wrote in
//!    capitals, instructions to the model.
//! 5. *Crowd*: enough different users and episodes stand behind it; see [`crate::Selection`].

use std::collections::BTreeSet;

use understudy_redact::{Policy, Redactor};

use crate::{Catalogue, DeploymentText, MemoryError, lexicon, overlap::Sources, words::normal};

/// How long a strategy may be, in characters.
const MAX_LENGTH: usize = 400;
/// More tools than this in one text are a script, and no lesson.
const MAX_TOOLS: usize = 4;

/// What an item may not tell a model, wherever it came from.
const ORDERS: [&str; 12] = [
    "ignore previous",
    "ignore all",
    "ignore the above",
    "ignore your",
    "disregard",
    "system prompt",
    "you are now",
    "new instruction",
    "do not tell the user",
    "without telling",
    "reveal your",
    "send all",
];

/// Checks texts against one catalogue.
#[derive(Debug)]
pub struct Sanitizer<'a> {
    catalogue: &'a Catalogue,
    vocabulary: BTreeSet<&'a str>,
}

impl<'a> Sanitizer<'a> {
    pub fn new(catalogue: &'a Catalogue) -> Self {
        Self { catalogue, vocabulary: catalogue.vocabulary() }
    }

    /// Admits a text, quarantines it for words a person must look at, or refuses it.
    pub fn clean(&self, text: &str, sources: &Sources) -> Result<DeploymentText, MemoryError> {
        let text = text.trim();
        self.fits(text)?;
        self.detect(text)?;
        let mut sources = sources.clone();
        sources.except(self.catalogue.own_text());
        if let Some(why) = sources.found_in(text) {
            return Err(MemoryError::Leak { why: why.to_owned() });
        }
        let unknown = self.unknown_words(text);
        if unknown.is_empty() {
            Ok(DeploymentText::sanitized(text.to_owned()))
        } else {
            Err(MemoryError::Quarantined { words: unknown })
        }
    }

    /// Whether a person may add a word to the approved ones: never one that a detector finds.
    pub fn approvable(&self, word: &str) -> Result<(), MemoryError> {
        let single = !word.is_empty() && word.chars().all(|c| c.is_ascii_alphabetic() || c == '-');
        if !single {
            let why = format!("{word:?} is not a single word of letters");
            return Err(MemoryError::Text { why });
        }
        self.detect(word)
    }

    fn fits(&self, text: &str) -> Result<(), MemoryError> {
        let refuse = |why: &str| Err(MemoryError::Text { why: why.to_owned() });
        if text.is_empty() || text.chars().count() > MAX_LENGTH {
            return refuse("it must have 1 to 400 characters");
        }
        if !text.is_ascii() || text.chars().any(|c| c.is_ascii_control()) {
            return refuse("it must be one line of plain ASCII");
        }
        let named = tokens(text).filter(|token| self.catalogue.tool(token).is_some()).count();
        if named > MAX_TOOLS {
            return refuse("it names more than four tools: a lesson is narrow, and no script");
        }
        Ok(())
    }

    fn detect(&self, text: &str) -> Result<(), MemoryError> {
        let leak = |why: String| Err(MemoryError::Leak { why });
        if let Some(span) = Redactor::new(Policy::Standard).find(text).first() {
            return leak(format!("it contains what looks like a {}", span.kind.as_str()));
        }
        let lower = normal(text);
        if lower.contains("://") || lower.contains("www.") {
            return leak("it contains a web address".to_owned());
        }
        if let Some(order) = ORDERS.iter().find(|order| lower.contains(*order)) {
            return leak(format!("it instructs the model: {order:?}"));
        }
        if without_placeholders(text).contains(['<', '>', '{', '}', '@', '#', '$']) {
            return leak("it contains markup or an address sign".to_owned());
        }
        for token in tokens(text).filter(|token| !self.vocabulary.contains(token)) {
            let digits = token.chars().filter(char::is_ascii_digit).count();
            let letters = token.chars().filter(char::is_ascii_alphabetic).count();
            let duration = token.strip_suffix(['s', 'm', 'h', 'd']).is_some_and(is_small_number);
            if digits > 0 && !is_small_number(token) && !duration {
                let what =
                    if letters > 0 { "an identifier" } else { "a number with over 3 digits" };
                return leak(format!("it contains what looks like {what}"));
            }
            if letters >= 8 && token.chars().all(|c| c.is_ascii_hexdigit()) {
                return leak("it contains what looks like a hexadecimal id".to_owned());
            }
            if token.contains(['.', '_', '/', '\\', ':']) {
                return leak(
                    "it contains a path, address or name that no tool declares".to_owned(),
                );
            }
        }
        Ok(())
    }

    /// Words that are in no list, as they stand. A capital within a sentence makes any word one.
    fn unknown_words(&self, text: &str) -> Vec<String> {
        let plain = without_placeholders(text);
        let mut unknown: Vec<String> = Vec::new();
        let mut begins = true;
        for raw in plain.split_whitespace() {
            let quoted = raw.starts_with('`');
            let token = trim(raw);
            let capital = token.starts_with(|c: char| c.is_ascii_uppercase());
            let known = token.is_empty()
                || self.vocabulary.contains(token)
                || ((begins || !capital) && !quoted && self.is_plain(token))
                || self.catalogue.approved_terms.contains(&token.to_lowercase());
            if !known && !unknown.iter().any(|word| word == token) {
                unknown.push(token.to_owned());
            }
            begins = raw.ends_with(['.', '!', '?']);
        }
        unknown
    }

    fn is_plain(&self, token: &str) -> bool {
        let lower = token.to_lowercase();
        let number = |part: &str| {
            is_small_number(part)
                || part.strip_suffix(['s', 'm', 'h', 'd']).is_some_and(is_small_number)
        };
        let approved = |part: &str| self.catalogue.approved_terms.contains(part);
        let shouted = token.len() > 1 && token.chars().all(|c| c.is_ascii_uppercase());
        !shouted
            && lower.split('-').all(|part| number(part) || lexicon::knows(part) || approved(part))
    }
}

fn is_small_number(text: &str) -> bool {
    (1..=3).contains(&text.len()) && text.chars().all(|c| c.is_ascii_digit())
}

/// Words, with the dots and slashes within them, without the marks around them.
fn tokens(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace().map(trim).filter(|token| !token.is_empty())
}

fn trim(token: &str) -> &str {
    token.trim_matches(|c: char| c.is_ascii_punctuation() && c != '<' && c != '>')
}

/// The text without `<date>` and its like, which stand for values and are none.
fn without_placeholders(text: &str) -> String {
    const TYPES: [&str; 9] = [
        "<text>",
        "<integer>",
        "<number>",
        "<date>",
        "<email>",
        "<url>",
        "<list>",
        "<object>",
        "<null>",
    ];
    TYPES.iter().fold(text.to_owned(), |text, placeholder| text.replace(placeholder, " "))
}

#[cfg(test)]
mod tests;
