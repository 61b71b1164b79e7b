//! What sources said, as sets of shingles: enough to find a copied phrase, not enough to read one.

use std::collections::{BTreeSet, HashSet};

use crate::words::normal;

/// Words in a row that may not recur.
const WORDS: usize = 5;
/// Characters in a row that may not recur, spaces and punctuation left out.
const CHARACTERS: usize = 24;

/// The shingles and the names of some texts.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    words: HashSet<u64>,
    characters: HashSet<u64>,
    /// Capitalised words in a row, in lower case: people, organisations, titles.
    entities: BTreeSet<String>,
}

impl Sources {
    pub fn of<T: AsRef<str>>(texts: &[T]) -> Self {
        let mut sources = Self::default();
        for text in texts {
            let text = text.as_ref();
            sources.words.extend(word_shingles(text));
            sources.characters.extend(character_shingles(text));
            sources.entities.extend(entities(text));
        }
        sources
    }

    pub fn add(&mut self, other: &Self) {
        self.words.extend(&other.words);
        self.characters.extend(&other.characters);
        self.entities.extend(other.entities.iter().cloned());
    }

    /// Forgets what stands in the operator's own texts, which may be repeated.
    pub(crate) fn except<'a>(&mut self, own: impl Iterator<Item = &'a str>) {
        for text in own {
            for shingle in word_shingles(text) {
                self.words.remove(&shingle);
            }
            for shingle in character_shingles(text) {
                self.characters.remove(&shingle);
            }
            for entity in entities(text) {
                self.entities.remove(&entity);
            }
        }
    }

    /// What a text repeats, if it repeats anything.
    pub(crate) fn found_in(&self, text: &str) -> Option<&'static str> {
        if word_shingles(text).any(|shingle| self.words.contains(&shingle)) {
            return Some("it repeats five words in a row from a source");
        }
        if character_shingles(text).iter().any(|shingle| self.characters.contains(shingle)) {
            return Some("it repeats 24 characters in a row from a source");
        }
        let padded = format!(" {} ", bare_words(text).join(" "));
        if self.entities.iter().any(|entity| padded.contains(&format!(" {entity} "))) {
            return Some("it names something that is written like a name or title in a source");
        }
        None
    }
}

fn bare_words(text: &str) -> Vec<String> {
    let normal = normal(text);
    let words = normal.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
}

fn word_shingles(text: &str) -> impl Iterator<Item = u64> + use<> {
    let words = bare_words(text);
    let count = (words.len() + 1).saturating_sub(WORDS);
    (0..count).map(move |at| hash(words[at..at + WORDS].join(" ").as_bytes()))
}

fn character_shingles(text: &str) -> Vec<u64> {
    let letters: Vec<char> = bare_words(text).concat().chars().collect();
    let shingle = |window: &[char]| hash(window.iter().collect::<String>().as_bytes());
    letters.windows(CHARACTERS).map(shingle).collect()
}

/// Two or more capitalised words in a row, and all their neighbouring pairs.
fn entities(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut row: Vec<String> = Vec::new();
    for word in text.split_whitespace().chain(["."]) {
        let bare: String = word.chars().filter(|c| c.is_alphanumeric()).collect();
        let capital = bare.chars().next().is_some_and(char::is_uppercase);
        if capital {
            row.push(bare.to_lowercase());
        }
        let ends = !capital || word.ends_with(['.', ',', ';', ':', '!', '?']);
        if ends {
            found.extend(row.windows(2).map(|pair| pair.join(" ")));
            row.clear();
        }
    }
    found
}

fn hash(bytes: &[u8]) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&blake3::hash(bytes).as_bytes()[..8]);
    u64::from_le_bytes(first)
}
