//! Copies of a case that no short run of words gives away: its words in another order or among a
//! few others, and long pieces of it.

use std::collections::{BTreeMap, BTreeSet};

/// |A ∩ B| / |A ∪ B| of the words of two texts that ask the same.
const SIMILAR: f64 = 0.8;
/// One run of so many words is a piece of a case,
const RUN: usize = 13;
/// if the case has so many: of a shorter one it is anybody's phrase.
const LONG: usize = 50;
/// Of a shorter one it takes half of its runs of so many words,
const SHORT_RUN: usize = 8;
const HALF: f64 = 0.5;
/// and what has fewer words yet is told by those.
const SHORT: usize = 16;
/// A run that so many cases have is their template's, and tells none of them.
const TEMPLATE: usize = 3;

/// The words of texts, as sets.
#[derive(Debug, Clone, Default)]
pub(crate) struct WordSets {
    sets: Vec<Vec<u64>>,
    /// Which sets have a word among their first. Two sets that are similar share one of those.
    by_first: BTreeMap<u64, Vec<usize>>,
}

/// A text's words, each once, from their lengths and hashes. Long ones come first, because what is
/// rare is quickly looked up and long words are rarer than short ones.
pub(crate) fn word_set(words: &[(usize, u64)]) -> Vec<u64> {
    let ranked = words.iter().map(|&(length, hash)| {
        let shortness = 63 - length.min(63) as u64;
        (shortness << 58) | (hash >> 6)
    });
    let mut ranked: Vec<u64> = ranked.collect();
    ranked.sort_unstable();
    ranked.dedup();
    ranked
}

impl WordSets {
    pub(crate) fn learn(&mut self, set: Vec<u64>) {
        for word in first(&set) {
            self.by_first.entry(*word).or_default().push(self.sets.len());
        }
        self.sets.push(set);
    }

    pub(crate) fn has_similar(&self, set: &[u64]) -> bool {
        let of_word = |word| self.by_first.get(word);
        let mut candidates: Vec<usize> =
            first(set).iter().filter_map(of_word).flatten().copied().collect();
        candidates.sort_unstable();
        candidates.dedup();
        candidates.into_iter().any(|nth| are_similar(set, &self.sets[nth]))
    }
}

/// So many words that a similar set, in the same order, has one of them among as many.
fn first(set: &[u64]) -> &[u64] {
    let least = (SIMILAR * set.len() as f64).ceil() as usize;
    &set[..(set.len() + 1).saturating_sub(least).min(set.len())]
}

fn are_similar(a: &[u64], b: &[u64]) -> bool {
    // How many words of `a` may be missing in `b`: one more, and no rest can make up for them.
    let least = (SIMILAR * (a.len() + b.len()) as f64 / (1.0 + SIMILAR)) as usize;
    let Some(mut spare) = a.len().checked_sub(least) else { return false };
    let (mut both, mut other) = (0, b.iter().peekable());
    for word in a {
        while other.next_if(|next| *next < word).is_some() {}
        if other.next_if_eq(&word).is_some() {
            both += 1;
        } else if spare == 0 {
            return false;
        } else {
            spare -= 1;
        }
    }
    both as f64 >= SIMILAR * (a.len() + b.len() - both) as f64
}

/// The runs of words of texts that are long enough.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pieces {
    /// Which texts have a run.
    runs: BTreeMap<u64, Vec<usize>>,
    short_runs: BTreeMap<u64, Vec<usize>>,
    texts: Vec<Known>,
}

#[derive(Debug, Clone)]
struct Known {
    case: usize,
    runs: usize,
}

impl Pieces {
    /// `hash` tells runs apart. A case may be learnt in several spellings.
    pub(crate) fn learn(&mut self, case: usize, words: &[u64], hash: fn(&[u64]) -> u64) {
        if words.len() < SHORT {
            return;
        }
        let is_long = words.len() >= LONG;
        let (own, length) =
            if is_long { (&mut self.runs, RUN) } else { (&mut self.short_runs, SHORT_RUN) };
        let runs = runs(words, length, hash);
        let (nth, count) = (self.texts.len(), runs.len());
        for run in runs {
            own.entry(run).or_default().push(nth);
        }
        self.texts.push(Known { case, runs: count });
    }

    pub(crate) fn has_piece_in(&self, words: &[u64], hash: fn(&[u64]) -> u64) -> bool {
        if self.texts.is_empty() {
            return false;
        }
        if runs(words, RUN, hash).iter().any(|run| !self.tells(&self.runs, *run).is_empty()) {
            return true;
        }
        let mut shared: BTreeMap<usize, usize> = BTreeMap::new();
        for run in runs(words, SHORT_RUN, hash) {
            for text in self.tells(&self.short_runs, run) {
                *shared.entry(*text).or_default() += 1;
            }
        }
        let is_half = |(text, shared): (&usize, &usize)| {
            *shared as f64 >= HALF * self.texts[*text].runs as f64
        };
        shared.iter().any(is_half)
    }

    /// The texts that a run is a piece of; none where it is a template's.
    fn tells<'a>(&self, runs: &'a BTreeMap<u64, Vec<usize>>, run: u64) -> &'a [usize] {
        let texts = runs.get(&run).map_or(&[][..], Vec::as_slice);
        let cases: BTreeSet<usize> =
            texts.iter().map(|text| self.texts[*text].case).take(4 * TEMPLATE).collect();
        if cases.len() < TEMPLATE { texts } else { &[] }
    }
}

fn runs(words: &[u64], length: usize, hash: fn(&[u64]) -> u64) -> BTreeSet<u64> {
    words.windows(length).map(hash).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_similar_where_the_definition_says_so() {
        let subsets: Vec<Vec<u64>> = (0_u64..1 << 9)
            .map(|bits| (0..9).filter(|word| bits >> word & 1 == 1).collect())
            .collect();
        let mut similar = 0;
        for (a, b) in subsets.iter().flat_map(|a| subsets.iter().map(move |b| (a, b))) {
            let both = a.iter().filter(|word| b.contains(word)).count();
            let expected = both as f64 >= SIMILAR * (a.len() + b.len() - both) as f64;
            assert_eq!(are_similar(a, b), expected, "{a:?} {b:?}");
            similar += usize::from(expected);
        }
        assert!(similar > subsets.len(), "more than every set and itself");
    }
}
