//! Train and dev, without anything on both sides.

use std::{cmp::Reverse, collections::BTreeMap};

use understudy_manifest::Split;

use crate::{
    key::Key,
    ledger::{Ledger, Tally},
    row::RowKind,
    selection::Fact,
    written::Written,
};

/// Where each row goes. Rows that share a trajectory, session, subject or prompt are one component,
/// and a component goes to dev as a whole, with probability `holdout`.
///
/// The draw is a keyed hash of the trajectory of the component's oldest row, so it does not depend
/// on what else there is, and a newer version holds out what an older one did. A greeting that
/// opens every session ties all of them together; the count `largest_component` tells.
pub(crate) fn split(
    rows: &[Written],
    facts: &[Fact],
    holdout: f64,
    ledger: &mut Ledger,
) -> Vec<Split> {
    let roots = components(rows, facts);
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
    splits
}

/// How many rows each component has, by its first row.
fn sizes(roots: impl Iterator<Item = usize>) -> BTreeMap<usize, usize> {
    let mut sizes = BTreeMap::new();
    for root in roots {
        *sizes.entry(root).or_default() += 1;
    }
    sizes
}

/// For each row the first row of its component.
fn components(rows: &[Written], facts: &[Fact]) -> Vec<usize> {
    let mut parents: Vec<usize> = (0..rows.len()).collect();
    let mut first_with: BTreeMap<Key, usize> = BTreeMap::new();
    for (nth, row) in rows.iter().enumerate() {
        for tie in ties(row, facts) {
            let other = *first_with.entry(tie).or_insert(nth);
            join(&mut parents, other, nth);
        }
    }
    (0..rows.len()).map(|nth| root(&mut parents, nth)).collect()
}

/// Everything that must not be on both sides.
fn ties<'a>(row: &'a Written, facts: &'a [Fact]) -> impl Iterator<Item = Key> + 'a {
    let steps = [row.candidate].into_iter().chain(row.others.iter().copied());
    let of_steps = steps.flat_map(|nth| {
        let Fact { trajectory, session, subject, .. } = &facts[nth];
        [Some(*trajectory), *session, *subject].into_iter().flatten()
    });
    row.prompts.iter().copied().chain(of_steps)
}

/// The smaller root wins, so that a component is named by its oldest row.
fn join(parents: &mut [usize], a: usize, b: usize) {
    let (a, b) = (root(parents, a), root(parents, b));
    parents[a.max(b)] = a.min(b);
}

fn root(parents: &mut [usize], mut nth: usize) -> usize {
    while parents[nth] != nth {
        parents[nth] = parents[parents[nth]];
        nth = parents[nth];
    }
    nth
}
