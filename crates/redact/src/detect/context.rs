//! The words around a number, which often say what it is.

use std::sync::LazyLock;

use regex::Regex;

use crate::Kind;

/// How far back a word may stand, in characters.
const REACH: usize = 48;

/// The words before byte `at`, nearest first, lower-cased; `phoneNumber` is two words.
pub(super) fn words_before(text: &str, at: usize) -> Vec<String> {
    let from = text[..at].char_indices().rev().nth(REACH - 1).map_or(0, |(index, _)| index);
    let mut words = words(&text[from..at]);
    words.reverse();
    words
}

/// The first word after byte `at`, when it follows on the same line.
pub(super) fn word_after(text: &str, at: usize) -> Option<String> {
    let line = text[at..].lines().next()?;
    words(&line.chars().take(16).collect::<String>()).into_iter().next()
}

/// Whether one of `wanted` stands nearby.
pub(super) fn mentions(text: &str, start: usize, end: usize, wanted: &str) -> bool {
    let after: String = text[end..].chars().take(REACH).collect();
    let nearby = words_before(text, start).into_iter().chain(words(&after));
    nearby.into_iter().any(|word| lists(wanted, &word))
}

/// Whether `word` is one of the words in a list written as a text.
pub(super) fn lists(list: &str, word: &str) -> bool {
    list.split_ascii_whitespace().any(|listed| listed == word)
}

/// Pseudonyms, whole or cut off at an end: what was masked says nothing of what stands beside it, or
/// masking again would find more.
static PSEUDONYMS: LazyLock<Regex> = LazyLock::new(|| {
    let kinds = Kind::ALL.map(|kind| kind.as_str().to_uppercase()).join("|");
    Regex::new(&format!("<?({kinds})_[0-9]{{1,6}}>|<({kinds})(_[0-9]*)?$"))
        .expect("is a valid pattern")
});

fn words(text: &str) -> Vec<String> {
    let text = PSEUDONYMS.replace_all(text, " ");
    let mut words = Vec::new();
    for run in text.split(|c: char| !c.is_alphabetic()) {
        let mut start = 0;
        let mut before = None;
        for (at, c) in run.char_indices() {
            if before.is_some_and(char::is_lowercase) && c.is_uppercase() {
                words.push(run[start..at].to_lowercase());
                start = at;
            }
            before = Some(c);
        }
        words.push(run[start..].to_lowercase());
    }
    words.retain(|word| !word.is_empty());
    words
}
