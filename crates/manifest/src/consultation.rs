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
pub struct Consultations(BTreeMap<Digest, u64>);

impl Consultations {
    /// From so many decisions on a report asks for fresh cases.
    pub const MANY: u64 = 20;

    /// Counts a decision, and returns the how-manieth it is.
    pub fn count(&mut self, suite: Digest) -> u64 {
        let count = self.0.entry(suite).or_default();
        *count += 1;
        *count
    }

    pub fn of(&self, suite: Digest) -> u64 {
        self.0.get(&suite).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_a_suite_are_counted_apart() {
        let (old, new) = (Digest::of(b"old"), Digest::of(b"new"));
        let mut counted = Consultations::default();
        assert_eq!((counted.count(old), counted.count(old), counted.count(new)), (1, 2, 1));
        let text = serde_json::to_string(&counted).unwrap();
        let again: Consultations = serde_json::from_str(&text).unwrap();
        assert_eq!((again.of(old), again.of(new), again.of(Digest::of(b"none"))), (2, 1, 0));
    }
}
