//! The words a text for every user may be made of: plain English for talking about tools.
//!
//! The list is short on purpose. A word that is missing costs a reviewer a look; a name that is on it
//! costs somebody their privacy, which is why words that are also given names ("mark" aside, a verb
//! every screen needs) are left out.

use std::{collections::HashSet, sync::LazyLock};

const WORDS: &str = include_str!("lexicon.txt");

/// Endings that make a known word's other forms.
const ENDINGS: [(&str, &[&str]); 12] = [
    ("'s", &[""]),
    ("ies", &["y"]),
    ("ied", &["y"]),
    ("ily", &["y"]),
    ("ing", &["", "e"]),
    ("ed", &["", "e"]),
    ("es", &["", "e"]),
    ("er", &["", "e"]),
    ("est", &["", "e"]),
    ("ly", &["", "le"]),
    ("ness", &[""]),
    ("s", &[""]),
];

/// Whether a word in lower case is on the list, or a regular form of one that is.
pub(crate) fn knows(word: &str) -> bool {
    static KNOWN: LazyLock<HashSet<&str>> =
        LazyLock::new(|| WORDS.split_ascii_whitespace().collect());
    let known = |word: &str| KNOWN.contains(word);
    let undoubled = |stem: &str| {
        let mut letters = stem.chars().rev();
        let last = letters.next();
        last.is_some() && last == letters.next() && known(&stem[..stem.len() - 1])
    };
    known(word)
        || ["un", "re", "dis", "mis"].iter().any(|p| word.strip_prefix(p).is_some_and(known))
        || ENDINGS.iter().any(|(ending, stems)| {
            word.strip_suffix(ending).is_some_and(|rest| {
                rest.len() >= 2
                    && (stems.iter().any(|stem| known(&format!("{rest}{stem}"))) || undoubled(rest))
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_known_words_are_known_and_names_are_not() {
        for word in ["calling", "called", "retries", "submitted", "quickly", "cheaper", "simply"] {
            assert!(knows(word), "{word}");
        }
        for word in ["ada", "lovelace", "acme", "grace", "berlin", "xq7", "nightingale", "lawsuit"]
        {
            assert!(!knows(word), "{word}");
        }
        assert!(WORDS.is_ascii() && WORDS.split_ascii_whitespace().count() > 1000);
    }
}
