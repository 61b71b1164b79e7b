//! What the dataset builder may know of a suite: enough to recognise its cases, not to read them.

use std::collections::{BTreeMap, BTreeSet};

use understudy_ident::Digest;
use understudy_manifest::Suite;
use understudy_message::{Message, Role};
use understudy_redact::{Policy, Redactor, without_numbers};

/// Two texts that share this much of their word triples say the same.
const SIMILAR: f64 = 0.8;

/// Between these lengths, in words, one changed word makes the triples differ by more than
/// [`SIMILAR`] allows, although the text is still the same case. Shorter texts differ by design.
const ONE_WORD_APART: std::ops::RangeInclusive<usize> = 5..=40;

/// Recognises the cases of one suite in exact, near and one-word-edited copies.
///
/// A case is known by its last user text, and by all of its user texts together. Both are kept as
/// they are and as redaction leaves them, because rows are compared after redaction.
#[derive(Debug, Clone)]
pub struct SuiteFingerprints {
    suite: Digest,
    exact: BTreeSet<u64>,
    one_word_apart: BTreeSet<u64>,
    /// Which texts of the suite hold a word triple.
    triples: BTreeMap<u64, Vec<usize>>,
    /// How many triples each text has.
    sizes: Vec<usize>,
}

impl SuiteFingerprints {
    pub fn of(suite: &Suite) -> Self {
        let mut prints = Self {
            suite: suite.digest(),
            exact: BTreeSet::new(),
            one_word_apart: BTreeSet::new(),
            triples: BTreeMap::new(),
            sizes: Vec::new(),
        };
        let redactor = Redactor::new(Policy::Standard);
        for case in &suite.cases {
            let texts = user_texts(&case.prompt);
            let mut masker = redactor.masker();
            let masked: Vec<String> = texts.iter().map(|text| masker.mask(text)).collect();
            for texts in [texts, masked] {
                prints.learn(&words(texts.last().map_or("", String::as_str)));
                prints.learn(&words(&texts.join("\n")));
            }
        }
        prints
    }

    pub fn suite(&self) -> Digest {
        self.suite
    }

    /// How a prompt repeats a case, if it does: any of its user texts, or all together.
    pub(crate) fn find(&self, prompt: &[Message]) -> Option<&'static str> {
        let ways = candidates(prompt).into_iter().filter_map(|words| self.similarity(&words));
        // The plainest reason is the one to report.
        ways.min().map(Similarity::as_str)
    }

    /// Whether a prompt repeats a case word by word.
    pub(crate) fn holds_exactly(&self, prompt: &[Message]) -> bool {
        candidates(prompt).iter().any(|words| self.exact.contains(&hash(words)))
    }

    fn learn(&mut self, words: &[String]) {
        if words.is_empty() || !self.exact.insert(hash(words)) {
            return;
        }
        self.one_word_apart.extend(shortened(words));
        let triples = triples(words);
        for triple in &triples {
            self.triples.entry(*triple).or_default().push(self.sizes.len());
        }
        self.sizes.push(triples.len());
    }

    fn similarity(&self, words: &[String]) -> Option<Similarity> {
        if self.exact.contains(&hash(words)) {
            return Some(Similarity::Exact);
        }
        // One word changed: both without it are equal. One added or lost: one without it is the
        // other.
        let whole = ONE_WORD_APART.contains(&words.len()).then(|| hash(words));
        let near = |print: u64| self.one_word_apart.contains(&print) || self.exact.contains(&print);
        if shortened(words).into_iter().chain(whole).any(near) {
            return Some(Similarity::OneWord);
        }
        self.is_near(words).then_some(Similarity::Near)
    }

    /// Jaccard similarity |A ∩ B| / |A ∪ B| over sets of word triples.
    fn is_near(&self, words: &[String]) -> bool {
        let triples = triples(words);
        let mut shared: BTreeMap<usize, usize> = BTreeMap::new();
        for text in triples.iter().filter_map(|triple| self.triples.get(triple)).flatten() {
            *shared.entry(*text).or_default() += 1;
        }
        shared.into_iter().any(|(text, both)| {
            let either = triples.len() + self.sizes[text] - both;
            both as f64 >= SIMILAR * either as f64
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Similarity {
    Exact,
    OneWord,
    Near,
}

impl Similarity {
    fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::OneWord => "one_word_apart",
            Self::Near => "near",
        }
    }
}

/// The texts of a prompt that could be a case, as words.
fn candidates(prompt: &[Message]) -> Vec<Vec<String>> {
    let texts = user_texts(prompt);
    let together = (texts.len() > 1).then(|| words(&texts.join("\n")));
    texts.iter().map(|text| words(text)).chain(together).collect()
}

fn user_texts(prompt: &[Message]) -> Vec<String> {
    let users = prompt.iter().filter(|message| message.role == Role::User);
    users.map(Message::text).filter(|text| !text.trim().is_empty()).collect()
}

/// Case, punctuation, spacing and the numbers of pseudonyms make no difference.
fn words(text: &str) -> Vec<String> {
    let text = without_numbers(text).to_lowercase();
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
}

/// The text without each of its words in turn, where that is telling.
fn shortened(words: &[String]) -> Vec<u64> {
    if !ONE_WORD_APART.contains(&words.len()) {
        return Vec::new();
    }
    (0..words.len()).map(|nth| hash(&[&words[..nth], &words[nth + 1..]].concat())).collect()
}

/// Every three words in a row; a shorter text is one triple.
fn triples(words: &[String]) -> BTreeSet<u64> {
    if words.len() < 3 {
        BTreeSet::from([hash(words)])
    } else {
        words.windows(3).map(hash).collect()
    }
}

/// 64 bits: a false hit in a million rows against ten thousand cases is a chance of 10⁻⁹.
fn hash(words: &[String]) -> u64 {
    let digest = Digest::of_parts(words.iter().map(String::as_bytes));
    let [a, b, c, d, e, f, g, h, ..] = *digest.as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}
