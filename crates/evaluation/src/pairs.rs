//! The scores of two subjects on the same cases, side by side.

use std::collections::BTreeMap;

use understudy_manifest::{Case, Suite};
use understudy_scorer::{Outcome, Score};

use crate::stats::{Difference, compare_clustered};

/// Cases on which both subjects have a score.
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    candidate: Vec<Score>,
    baseline: Vec<Score>,
    clusters: Vec<usize>,
    /// Cases left out because one of the two has none.
    pub unscored: u64,
}

impl Pairs {
    /// Pairs the outcomes of those cases that are wanted, weighted as the suite says.
    pub(crate) fn new(
        suite: &Suite,
        candidate: &[Outcome],
        baseline: &[Outcome],
        wanted: impl Fn(&Case) -> bool,
    ) -> Self {
        let mut pairs = Self::default();
        let clusters = clusters(suite);
        let outcomes = candidate.iter().zip(baseline);
        for ((case, cluster), (candidate, baseline)) in
            suite.cases.iter().zip(clusters).zip(outcomes)
        {
            if !wanted(case) {
                continue;
            }
            match (candidate.score(), baseline.score()) {
                (Some(candidate), Some(baseline)) => {
                    pairs.candidate.push(candidate.weighted(case.weight));
                    pairs.baseline.push(baseline.weighted(case.weight));
                    pairs.clusters.push(cluster);
                }
                _ => pairs.unscored += 1,
            }
        }
        pairs
    }

    pub(crate) fn len(&self) -> u64 {
        self.candidate.len() as u64
    }

    pub(crate) fn compare(&self, seed: u64) -> Difference {
        compare_clustered(&self.candidate, &self.baseline, &self.clusters, seed)
    }

    /// How many cases the baseline has fully right or not (`before`), and of these the candidate.
    pub(crate) fn count(&self, before: bool, after: bool) -> u64 {
        let pairs = self.baseline.iter().zip(&self.candidate);
        pairs.filter(|(b, c)| b.is_full() == before && c.is_full() == after).count() as u64
    }
}

/// A number per case, the same for cases of one cluster.
pub(crate) fn clusters<'a>(suite: &'a Suite) -> Vec<usize> {
    let mut named: BTreeMap<&'a str, usize> = BTreeMap::new();
    let number = |(nth, case): (usize, &'a Case)| match &case.cluster {
        Some(name) => *named.entry(name).or_insert(nth),
        None => nth,
    };
    suite.cases.iter().enumerate().map(number).collect()
}
