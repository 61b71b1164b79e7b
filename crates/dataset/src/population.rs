//! When and whose the steps are that the rows of a version were made of.

use std::collections::{BTreeMap, BTreeSet};

use understudy_manifest::Population;

use crate::{key::Key, selection::Fact, written::Written};

/// Of the rows that are left; none of none.
pub(crate) fn population(rows: &[Written], facts: &[Fact]) -> Option<Population> {
    let steps: BTreeSet<usize> = rows.iter().flat_map(Written::steps).collect();
    let of = |nth: &usize| &facts[*nth];
    // Candidates are ordered by age.
    let (from, to) = (of(steps.first()?).at, of(steps.last()?).at);
    let trajectories: BTreeSet<Key> = steps.iter().map(|nth| of(nth).trajectory).collect();
    let subjects = times(steps.iter().filter_map(|nth| of(nth).subject));
    let models = times(steps.iter().map(|nth| of(nth).model));
    let labels = |says| rows.iter().filter(|row| row.label == Some(says)).count() as u64;
    Some(Population {
        from,
        to,
        steps: steps.len() as u64,
        trajectories: trajectories.len() as u64,
        subjects: subjects.len() as u64,
        without_subject: steps.iter().filter(|nth| of(nth).subject.is_none()).count() as u64,
        most_of_one_subject: most(&subjects),
        models: models.len() as u64,
        most_of_one_model: most(&models),
        wanted: labels(true),
        unwanted: labels(false),
    })
}

fn times(keys: impl Iterator<Item = Key>) -> BTreeMap<Key, u64> {
    let mut times = BTreeMap::new();
    for key in keys {
        *times.entry(key).or_default() += 1;
    }
    times
}

fn most(times: &BTreeMap<Key, u64>) -> u64 {
    times.values().max().copied().unwrap_or_default()
}
