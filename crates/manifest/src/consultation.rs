//! How often a suite has decided.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use understudy_ident::Digest;

/// Decisions per version of a suite.
///
/// Each decision on the same cases tells the next candidate a little about them. After enough of
/// them a pass may be luck and selection (Dwork et al., "The reusable holdout", 2015), so they are
/// counted, and a version of the suite that has been asked too often says so.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Consultations(BTreeMap<Digest, Decisions>);

/// Those on one version. Who looks again at what is decided already learns nothing new, so the same
/// evidence keeps its number.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, from = "Stored")]
struct Decisions {
    count: u64,
    by_evidence: BTreeMap<Digest, u64>,
}

/// Files from before evidence was told apart hold a number alone.
#[derive(Deserialize)]
#[serde(untagged)]
enum Stored {
    Count(u64),
    Decisions { count: u64, by_evidence: BTreeMap<Digest, u64> },
}

impl From<Stored> for Decisions {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::Count(count) => Self { count, ..Self::default() },
            Stored::Decisions { count, by_evidence } => Self { count, by_evidence },
        }
    }
}

impl Consultations {
    /// From so many decisions on a report asks for fresh cases.
    pub const MANY: u64 = 20;

    /// Counts a decision unless it was made before on the same evidence, and returns the
    /// how-manieth it is.
    pub fn count(&mut self, suite: Digest, evidence: Digest) -> u64 {
        let Decisions { count, by_evidence } = self.0.entry(suite).or_default();
        *by_evidence.entry(evidence).or_insert_with(|| {
            *count += 1;
            *count
        })
    }

    pub fn of(&self, suite: Digest) -> u64 {
        self.0.get(&suite).map_or(0, |decisions| decisions.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_a_suite_are_counted_apart_and_the_same_evidence_once() {
        let (old, new) = (Digest::of(b"old"), Digest::of(b"new"));
        let evidence = |n: u8| Digest::of(&[n]);
        let mut counted = Consultations::default();
        assert_eq!((counted.count(old, evidence(1)), counted.count(old, evidence(2))), (1, 2));
        assert_eq!(counted.count(new, evidence(1)), 1);
        let text = serde_json::to_string(&counted).unwrap();
        let mut again: Consultations = serde_json::from_str(&text).unwrap();
        assert_eq!((again.of(old), again.of(new), again.of(Digest::of(b"none"))), (2, 1, 0));
        assert_eq!((again.count(old, evidence(1)), again.of(old)), (1, 2));
        assert_eq!(again.count(old, evidence(3)), 3);
    }

    #[test]
    fn a_count_from_before_evidence_was_kept_goes_on() {
        let suite = Digest::of(b"suite");
        let text = format!("{{\"{}\":7}}", suite.to_hex());
        let mut counted: Consultations = serde_json::from_str(&text).unwrap();
        assert_eq!((counted.of(suite), counted.count(suite, Digest::of(b"new"))), (7, 8));
    }
}
