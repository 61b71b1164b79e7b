//! What the dataset builder may know of a suite: enough to recognise its cases, not to read them.

use std::collections::{BTreeMap, BTreeSet};

use understudy_ident::Digest;
use understudy_manifest::Suite;
use understudy_message::{Message, Role};
use understudy_redact::{Policy, Redactor, without_numbers};

use crate::overlap::{Pieces, WordSets, word_set};

/// Two texts that share this much of their word triples say the same.
const SIMILAR: f64 = 0.8;

/// Between these lengths, in words, one changed word makes the triples differ by more than
/// [`SIMILAR`] allows, although the text is still the same case. Shorter texts differ by design.
const ONE_WORD_APART: std::ops::RangeInclusive<usize> = 5..=40;

/// Recognises the cases of one suite in exact, near and one-word-edited copies, by their words in
/// any order, and by long pieces.
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
    word_sets: WordSets,
    pieces: Pieces,
    cases: usize,
}

impl SuiteFingerprints {
    pub fn of(suite: &Suite) -> Self {
        let mut prints = Self::nothing(suite);
        suite.cases.iter().for_each(|case| prints.learn_case(&case.prompt));
        prints
    }

    /// The cases of a suite that repeat an earlier one of it, by id, and how: they count twice in
    /// every mean without telling more.
    pub fn repeats_within(suite: &Suite) -> Vec<(&str, &'static str)> {
        let mut prints = Self::nothing(suite);
        let mut repeats = Vec::new();
        for case in &suite.cases {
            // The case as a whole: that its last turn alone was asked before is no repetition.
            let whole = Phrase::of(&user_texts(&case.prompt).join("\n"));
            repeats.extend(prints.similarity(&whole).map(|how| (case.id.as_str(), how.as_str())));
            prints.learn(&whole);
            prints.cases += 1;
        }
        repeats
    }

    fn nothing(suite: &Suite) -> Self {
        Self {
            suite: suite.digest(),
            exact: BTreeSet::new(),
            one_word_apart: BTreeSet::new(),
            triples: BTreeMap::new(),
            sizes: Vec::new(),
            word_sets: WordSets::default(),
            pieces: Pieces::default(),
            cases: 0,
        }
    }

    fn learn_case(&mut self, prompt: &[Message]) {
        let texts = user_texts(prompt);
        let masked = masked(&texts);
        for texts in [texts, masked] {
            self.learn(&Phrase::of(texts.last().map_or("", String::as_str)));
            self.learn(&Phrase::of(&texts.join("\n")));
        }
        self.cases += 1;
    }

    pub fn suite(&self) -> Digest {
        self.suite
    }

    /// How a prompt repeats a case, if it does: any of its user texts, or all together. `exact`
    /// but for case, punctuation and spaces; `one_word_apart`; `near`, with 80 % of the word triples
    /// of both in common; `same_words`, with 80 % of the words; or `piece`, with 13 words in a row of
    /// a case of 50 and more, or half of the runs of 8 of a shorter one.
    pub fn find(&self, prompt: &[Message]) -> Option<&'static str> {
        self.find_asked(&Asked::of(prompt))
    }

    pub(crate) fn find_asked(&self, asked: &Asked) -> Option<&'static str> {
        let ways = asked.0.iter().filter_map(|phrase| self.similarity(phrase));
        // The plainest reason is the one to report.
        ways.min().map(Similarity::as_str)
    }

    /// Whether a prompt repeats a case word by word.
    pub(crate) fn holds_exactly(&self, asked: &Asked) -> bool {
        asked.0.iter().any(|phrase| self.exact.contains(&hash(&phrase.words)))
    }

    fn learn(&mut self, phrase: &Phrase) {
        let words = &phrase.words;
        if words.is_empty() || !self.exact.insert(hash(words)) {
            return;
        }
        self.one_word_apart.extend(shortened(words));
        let triples = triples(words);
        for triple in &triples {
            self.triples.entry(*triple).or_default().push(self.sizes.len());
        }
        self.sizes.push(triples.len());
        self.word_sets.learn(phrase.set.clone());
        self.pieces.learn(self.cases, words, hash);
    }

    fn similarity(&self, phrase: &Phrase) -> Option<Similarity> {
        let words = &phrase.words;
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
        if self.is_near(words) {
            Some(Similarity::Near)
        } else if self.word_sets.has_similar(&phrase.set) {
            Some(Similarity::SameWords)
        } else {
            self.pieces.has_piece_in(words, hash).then_some(Similarity::Piece)
        }
    }

    /// Jaccard similarity |A ∩ B| / |A ∪ B| over sets of word triples.
    fn is_near(&self, words: &[u64]) -> bool {
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
    SameWords,
    Piece,
}

impl Similarity {
    fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::OneWord => "one_word_apart",
            Self::Near => "near",
            Self::SameWords => "same_words",
            Self::Piece => "piece",
        }
    }
}

/// The texts of a prompt that could be a case, to be looked up in any number of suites.
pub(crate) struct Asked(Vec<Phrase>);

impl Asked {
    pub(crate) fn of(prompt: &[Message]) -> Self {
        let texts = user_texts(prompt);
        let together = (texts.len() > 1).then(|| Phrase::of(&texts.join("\n")));
        Self(texts.iter().map(|text| Phrase::of(text)).chain(together).collect())
    }
}

/// As redaction leaves them.
pub(crate) fn masked(texts: &[String]) -> Vec<String> {
    let mut masker = Redactor::new(Policy::Standard).masker();
    texts.iter().map(|text| masker.mask(text)).collect()
}

pub(crate) fn user_texts(prompt: &[Message]) -> Vec<String> {
    let users = prompt.iter().filter(|message| message.role == Role::User);
    users.map(Message::text).filter(|text| !text.trim().is_empty()).collect()
}

/// A text as one number a word. Case, punctuation, spacing and the numbers of pseudonyms make no
/// difference.
struct Phrase {
    /// In order.
    words: Vec<u64>,
    /// Each once.
    set: Vec<u64>,
}

impl Phrase {
    fn of(text: &str) -> Self {
        let text = without_numbers(text).to_lowercase();
        let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
        let numbered =
            |word: &str| (word.chars().count(), number(Digest::of(word.as_bytes())) % PRIME);
        let words: Vec<(usize, u64)> = words.map(numbered).collect();
        Self { set: word_set(&words), words: words.into_iter().map(|(_, number)| number).collect() }
    }
}

/// The text without each of its words in turn, where that is telling.
///
/// The hash of a text is that of its head times BASE to the length of its tail, plus the tail's own
/// sum, so both are carried from word to word instead of being hashed again.
fn shortened(words: &[u64]) -> Vec<u64> {
    if !ONE_WORD_APART.contains(&words.len()) {
        return Vec::new();
    }
    let mut heads = vec![hash(&[])];
    for &word in words {
        heads.push(add(multiply(heads[heads.len() - 1], BASE), word));
    }
    let (mut tail, mut power) = (0, 1);
    let mut shortened = Vec::with_capacity(words.len());
    for nth in (0..words.len()).rev() {
        shortened.push(add(multiply(heads[nth], power), tail));
        tail = add(tail, multiply(words[nth], power));
        power = multiply(power, BASE);
    }
    shortened
}

/// Every three words in a row; a shorter text is one triple.
fn triples(words: &[u64]) -> BTreeSet<u64> {
    if words.len() < 3 {
        BTreeSet::from([hash(words)])
    } else {
        words.windows(3).map(hash).collect()
    }
}

const PRIME: u64 = (1 << 61) - 1;
/// Any number of many bits does; this one is the golden ratio's.
const BASE: u64 = 0x9e37_79b9_7f4a_7c15 % PRIME;

/// A polynomial over the words, modulo a prime of 61 bits: among a million rows and ten thousand
/// cases of forty words, any false hit at all has a chance of about 10⁻⁵.
fn hash(words: &[u64]) -> u64 {
    words.iter().fold(1, |hash, &word| add(multiply(hash, BASE), word))
}

fn add(a: u64, b: u64) -> u64 {
    (a + b) % PRIME
}

fn multiply(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    // 2^61 is 1 modulo the prime, so the high bits are added to the low ones.
    add((product & u128::from(PRIME)) as u64, (product >> 61) as u64)
}

fn number(digest: Digest) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *digest.as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}
