//! Near-duplicates: rows whose last turn and whose answer are both all but those of another row.
//!
//! Texts are compared by their word 5-grams, and by character 5-grams where they have fewer than 20
//! words. MinHash keeps of either side 56 sixteen-bit minima, each of which two texts share with
//! the probability of their Jaccard similarity. Rows are candidates where one of 14 bands of 8
//! minima agrees, 4 of the turn and 4 of the answer, which two rows of similarity 0.8 do with a
//! probability of 0.92; and near where of all the minima of each side [`SIMILAR`] agree. Halves of
//! either side, because an answer that many questions have in common makes none of them the other.
//!
//! Memory: 232 bytes a row, 344 of a pair, and while bands are compared 32 more.

use rayon::prelude::*;
use understudy_ident::Digest;
use understudy_redact::without_numbers;

use crate::components::Components;

const BANDS: usize = 14;
/// Minima of one side in a band.
const HALF: usize = 4;
const MINIMA: usize = BANDS * HALF;
/// How many of the minima of a side agree in near-duplicates: a similarity of about 0.72.
const SIMILAR: usize = 40;
/// Of words or characters.
const GRAM: usize = 5;
/// Texts of fewer words are compared by their characters.
const SHORT: usize = 20;
/// A turn of fewer words means what was said before it means.
pub(crate) const TELLING: usize = 4;
/// How many rows that are unlike each other one is compared with in a band: more would mean that
/// the band tells nothing.
const COMPARED: usize = 64;

type Minima = [u16; MINIMA];

/// What a row is compared by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sketch {
    turn: Minima,
    answer: Minima,
    /// Of a pair, what is not to be said.
    rejected: Option<Box<Minima>>,
    /// Of the numbers in short texts, of which one more or less is another question.
    numbers: u32,
}

/// One text of a row.
#[derive(Debug, Clone)]
pub(crate) struct Side {
    minima: Minima,
    numbers: String,
}

impl Side {
    pub(crate) fn of(text: &str) -> Self {
        let text = Text::of(text);
        Self { minima: text.minima(), numbers: text.numbers() }
    }
}

impl Sketch {
    pub(crate) fn of(turn: &Side, answer: &Side, rejected: Option<&Side>) -> Self {
        let numbers = format!("{}|{}", turn.numbers, answer.numbers);
        Self {
            turn: turn.minima,
            answer: answer.minima,
            rejected: rejected.map(|side| Box::new(side.minima)),
            numbers: hash(numbers.as_bytes()) as u32,
        }
    }

    /// What the last turn alone is known by, without its numbers.
    pub(crate) fn of_turn_alone(&self) -> Self {
        Self { turn: self.turn, answer: [0; MINIMA], rejected: None, numbers: 0 }
    }

    /// Whether both ask and answer the same; what a pair rejects matters to nobody but a pair.
    pub(crate) fn is_near(&self, other: &Self) -> bool {
        let rejected = match (&self.rejected, &other.rejected) {
            (Some(a), Some(b)) => alike(a, b),
            _ => true,
        };
        rejected
            && self.numbers == other.numbers
            && alike(&self.turn, &other.turn)
            && alike(&self.answer, &other.answer)
    }

    fn band(&self, nth: usize) -> u128 {
        let range = nth * HALF..(nth + 1) * HALF;
        let minima = self.turn[range.clone()].iter().chain(&self.answer[range]);
        minima.fold(0, |key, minimum| (key << 16) | u128::from(*minimum))
    }
}

/// Pairs of near-duplicates among rows, as few as join each of them with its own: a row and an
/// earlier one. Rows of different classes are not compared.
pub(crate) fn ties<'a>(
    count: usize,
    sketch: impl Fn(usize) -> Option<(u8, &'a Sketch)>,
) -> Vec<(usize, usize)> {
    let mut components = Components::apart(count);
    let mut ties = Vec::new();
    for band in 0..BANDS {
        let key = |nth| sketch(nth).map(|(class, sketch)| ((class, sketch.band(band)), nth));
        let mut keyed: Vec<_> = (0..count).filter_map(key).collect();
        keyed.par_sort_unstable();
        for bucket in keyed.chunk_by(|a, b| a.0 == b.0).filter(|bucket| bucket.len() > 1) {
            let mut unlike: Vec<usize> = Vec::new();
            for &(_, nth) in bucket {
                if unlike.iter().any(|&other| components.are_joined(other, nth)) {
                    continue;
                }
                let own = sketch(nth).map(|(_, own)| own);
                let near = unlike.iter().copied().find(|&other| {
                    own.zip(sketch(other)).is_some_and(|(own, (_, other))| own.is_near(other))
                });
                if let Some(other) = near {
                    components.join(other, nth);
                    ties.push((other, nth));
                } else if unlike.len() < COMPARED {
                    unlike.push(nth);
                }
            }
        }
    }
    ties
}

fn alike(a: &Minima, b: &Minima) -> bool {
    a.iter().zip(b).filter(|(a, b)| a == b).count() >= SIMILAR
}

/// A text as words in lower case. Marks, spaces and the numbers of pseudonyms make no difference.
struct Text(Vec<String>);

impl Text {
    fn of(text: &str) -> Self {
        let text = without_numbers(text).to_lowercase();
        let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
        Self(words.map(str::to_owned).collect())
    }

    fn is_short(&self) -> bool {
        self.0.len() < SHORT
    }

    fn numbers(&self) -> String {
        let is_number = |word: &&String| word.contains(|c: char| c.is_ascii_digit());
        let numbers = self.0.iter().filter(|_| self.is_short()).filter(is_number);
        numbers.cloned().collect::<Vec<_>>().join(" ")
    }

    fn minima(&self) -> Minima {
        let mut minima = [u64::MAX; MINIMA];
        let mut add = |gram: &[u64]| {
            let gram = gram.iter().fold(0, |gram, part| mixed(gram ^ part).wrapping_add(GOLDEN));
            for (minimum, factor) in minima.iter_mut().zip(FACTORS) {
                *minimum = gram.wrapping_mul(factor).min(*minimum);
            }
        };
        let parts: Vec<u64> = if self.is_short() {
            self.0.join(" ").chars().map(u64::from).collect()
        } else {
            self.0.iter().map(|word| hash(word.as_bytes())).collect()
        };
        // A text that is shorter than a gram is one.
        parts.windows(GRAM.min(parts.len()).max(1)).for_each(&mut add);
        // The high bits of a minimum are zeros.
        minima.map(|minimum| minimum as u16)
    }
}

/// The golden ratio's fraction, of 2^64.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Odd numbers of many bits: multiplied by one each, grams are in as many orders.
const FACTORS: [u64; MINIMA] = {
    let mut factors = [0; MINIMA];
    let mut nth = 0;
    while nth < MINIMA {
        factors[nth] = mixed((nth as u64 + 1).wrapping_mul(GOLDEN)) | 1;
        nth += 1;
    }
    factors
};

/// SplitMix64's: every bit of the input changes half of the bits.
const fn mixed(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

fn hash(bytes: &[u8]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *Digest::of(bytes).as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}
