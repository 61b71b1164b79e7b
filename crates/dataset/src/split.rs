//! Train and dev, without anything on both sides.

use std::{cmp::Reverse, collections::BTreeMap};

use understudy_manifest::Split;

use crate::{
    components::{Components, sizes},
    key::Key,
    ledger::{Ledger, Tally},
    minhash,
    row::RowKind,
    selection::Fact,
    written::Written,
};

/// Where each row goes. Rows that share a trajectory, session, subject, problem or prompt and rows that are
/// near-duplicates are one component, which goes to dev as a whole, with probability `holdout`.
///
/// The draw is a keyed hash of the trajectory of the component's oldest row, so it does not depend
/// on what else there is, and a newer version holds out what an older one did. A greeting that
/// opens every session ties all of them together; the count `largest_component` tells.
pub(crate) fn split(
    rows: &[Written],
    facts: &[Fact],
    holdout: f64,
    ledger: &mut Ledger,
) -> (Vec<Split>, Leakage) {
    let near = minhash::ties(rows.len(), |nth| Some((0, rows[nth].sketch.as_deref()?)));
    let roots = components(rows, facts, &near);
    let mut splits: Vec<Split> = roots
        .iter()
        .map(|&root| if rows[root].draw < holdout { Split::Dev } else { Split::Train })
        .collect();

    let of = |kinds: &[RowKind]| {
        let those = rows.iter().zip(&roots).filter(|(row, _)| kinds.contains(&row.kind));
        sizes(those.map(|(_, &root)| root))
    };
    let mut teachers = of(&[RowKind::Sft, RowKind::Pairs]);
    if teachers.is_empty() {
        teachers = of(&[RowKind::Groups]);
    }
    let in_train = |root: &usize| splits[*root] == Split::Train;
    if !teachers.keys().any(in_train)
        && let Some((&largest, _)) = teachers.iter().max_by_key(|&(root, n)| (n, Reverse(root)))
    {
        // With few components the draw may hold out everything, which would leave nothing to learn.
        for (split, &root) in splits.iter_mut().zip(&roots) {
            if root == largest {
                *split = Split::Train;
            }
        }
    }

    let components = sizes(roots.iter().copied());
    let mut tally = Tally::default();
    tally.add_many("components", components.len() as u64);
    let largest = components.values().max().copied().unwrap_or_default();
    tally.add_many("largest_component", largest as u64);
    for split in &splits {
        tally.add(split.as_str());
    }
    ledger.close("split", rows.len(), rows.len(), tally);
    let leakage = leakage(rows, facts, &splits, &near);
    (splits, leakage)
}

/// How much is on both sides, by what it is. Anything but zeros is a defect.
pub(crate) type Leakage = BTreeMap<String, u64>;

/// Counts by the finished splits, whatever made them.
fn leakage(rows: &[Written], facts: &[Fact], splits: &[Split], near: &[(usize, usize)]) -> Leakage {
    let mut sides: BTreeMap<(&str, Key), (bool, bool)> = BTreeMap::new();
    for (row, split) in rows.iter().zip(splits) {
        for tie in ties(row, facts) {
            let (train, dev) = sides.entry(tie).or_default();
            *train |= *split == Split::Train;
            *dev |= *split == Split::Dev;
        }
    }
    let kinds = ["trajectories", "sessions", "subjects", "problems", "prompts"];
    let mut leakage: Leakage = kinds.into_iter().map(|kind| (kind.to_owned(), 0)).collect();
    for (kind, _) in sides.into_iter().filter(|(_, sides)| *sides == (true, true)).map(|one| one.0)
    {
        *leakage.entry(kind.to_owned()).or_default() += 1;
    }
    let straddling = near.iter().filter(|(a, b)| splits[*a] != splits[*b]).count();
    leakage.insert("near_duplicates".to_owned(), straddling as u64);
    leakage
}

/// For each row the first row of its component, by which it is named: the oldest.
fn components(rows: &[Written], facts: &[Fact], near: &[(usize, usize)]) -> Vec<usize> {
    let mut components = Components::apart(rows.len());
    let mut first_with: BTreeMap<(&str, Key), usize> = BTreeMap::new();
    for (nth, row) in rows.iter().enumerate() {
        for tie in ties(row, facts) {
            components.join(*first_with.entry(tie).or_insert(nth), nth);
        }
    }
    for (one, other) in near {
        components.join(*one, *other);
    }
    components.firsts()
}

/// Everything that must not be on both sides.
fn ties<'a>(row: &'a Written, facts: &'a [Fact]) -> impl Iterator<Item = (&'static str, Key)> + 'a {
    let steps = [row.candidate].into_iter().chain(row.others.iter().copied());
    let of_steps = steps.flat_map(|nth| {
        let Fact { trajectory, session, subject, problem, .. } = &facts[nth];
        let trajectory = ("trajectories", Some(*trajectory));
        let problem = ("problems", problem.map(|(name, _)| name));
        let ties = [trajectory, ("sessions", *session), ("subjects", *subject), problem];
        ties.into_iter().filter_map(|(kind, key)| Some((kind, key?)))
    });
    row.prompts.iter().map(|prompt| ("prompts", *prompt)).chain(of_steps)
}
