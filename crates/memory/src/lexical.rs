//! BM25 over the situations of lessons.
//!
//! Source: Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009),
//! with `idf = ln(1 + (N − n + ½)/(n + ½))`.

use std::collections::HashMap;

use crate::words::{is_stop, terms};

const K1: f32 = 1.2;
const B: f32 = 0.75;

/// An inverted index.
#[derive(Debug, Default)]
pub(crate) struct Lexical {
    postings: HashMap<String, Vec<(u32, f32)>>,
    lengths: Vec<f32>,
    average: f32,
}

/// How well one document matches.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Match {
    pub(crate) bm25: f32,
    /// The share of the query's weight, by idf, that the document has.
    pub(crate) coverage: f32,
    /// The part of `bm25` that names have: `refunds.quote`, `E4711`, 404.
    pub(crate) names: f32,
}

impl Lexical {
    pub(crate) fn of<'a>(documents: impl Iterator<Item = &'a str>) -> Self {
        let mut index = Self::default();
        for (at, text) in documents.enumerate() {
            let mut counts: HashMap<String, f32> = HashMap::new();
            let mut length = 0.0;
            for term in terms(text).into_iter().filter(|term| !is_stop(term)) {
                *counts.entry(term).or_default() += 1.0;
                length += 1.0;
            }
            index.lengths.push(length);
            let mut counts: Vec<(String, f32)> = counts.into_iter().collect();
            counts.sort_by(|a, b| a.0.cmp(&b.0));
            for (term, count) in counts {
                index.postings.entry(term).or_default().push((at as u32, count));
            }
        }
        index.average = index.lengths.iter().sum::<f32>() / (index.lengths.len() as f32).max(1.0);
        index
    }

    /// How well every document matches a query.
    pub(crate) fn matches(&self, query: &str) -> Vec<Match> {
        let mut found = vec![Match::default(); self.lengths.len()];
        let mut wanted: Vec<String> = terms(query).into_iter().filter(|t| !is_stop(t)).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let n = self.lengths.len() as f32;
        let idf = |documents: f32| (1.0 + (n - documents + 0.5) / (documents + 0.5)).ln();
        let mut total = 0.0;
        for term in &wanted {
            let postings = self.postings.get(term).map(Vec::as_slice).unwrap_or_default();
            let (idf, is_name) = (idf(postings.len() as f32), is_name(term));
            total += idf;
            for (at, count) in postings {
                let length = self.lengths[*at as usize] / self.average.max(1.0);
                let matched = &mut found[*at as usize];
                let weight = idf * count * (K1 + 1.0) / (count + K1 * (1.0 - B + B * length));
                matched.bm25 += weight;
                matched.coverage += idf;
                if is_name {
                    matched.names += weight;
                }
            }
        }
        if total > 0.0 {
            for matched in &mut found {
                matched.coverage /= total;
            }
        }
        found
    }
}

/// Whether a term is one that is meant letter by letter: of several parts, with letters and digits, or
/// a number of three digits and more.
fn is_name(term: &str) -> bool {
    let digits = term.chars().filter(char::is_ascii_digit).count();
    let joined = term.contains(|c: char| !c.is_alphanumeric());
    joined || digits >= 3 || (digits > 0 && term.contains(char::is_alphabetic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_words() {
        for name in ["refunds.quote", "e4711", "404", "not_found"] {
            assert!(is_name(name), "{name}");
        }
        assert!(!["refund", "order", "7", "30"].into_iter().any(is_name));
        let index = Lexical::of(["quote with refunds.quote", "quote a refund"].into_iter());
        let [named, other] = index.matches("a quote by refunds.quote")[..] else { panic!() };
        assert!(named.names > 0.0 && named.names < named.bm25 && other.names == 0.0);
    }

    #[test]
    fn rare_words_decide_and_names_match_by_their_parts() {
        let index = Lexical::of(
            ["refund an order with refunds.create", "find an order", "find a customer"].into_iter(),
        );
        let scores = index.matches("please refund this order");
        assert!(scores[0].bm25 > scores[1].bm25 && scores[1].bm25 > scores[2].bm25);
        assert!((scores[0].coverage - 1.0).abs() < 1e-6 && scores[2].coverage == 0.0);
        assert!(index.matches("refunds.create failed")[0].bm25 > 0.0);
        assert!(index.matches("the of and").iter().all(|m| m.bm25 == 0.0));
    }
}
