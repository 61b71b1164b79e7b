//! Train and dev, without anything on both sides.

use std::{cmp::Reverse, collections::BTreeMap};

use understudy_ident::Digest;
use understudy_manifest::{Split, canonical_json};
use understudy_message::Message;
use understudy_redact::without_numbers;

use crate::{
    candidate::Candidate,
    ledger::{Ledger, Tally},
    row::{Row, RowKind},
};

/// Where each row goes. Rows that share a trajectory, session, subject or prompt are one component,
/// and a component goes to dev as a whole, with probability `holdout`.
///
/// The draw is a keyed hash of the trajectory of the component's oldest row, so it does not depend
/// on what else there is, and a newer version holds out what an older one did. A greeting that
/// opens every session ties all of them together; the count `largest_component` tells.
pub(crate) fn split(
    rows: &[Row],
    candidates: &[Candidate],
    holdout: f64,
    seed: u64,
    ledger: &mut Ledger,
) -> Vec<Split> {
    let roots = components(rows, candidates);
    let draw = |root: usize| {
        let unit = rows[root].origin.trajectory.as_bytes();
        let digest = Digest::of_parts([b"understudy split".as_slice(), &seed.to_le_bytes(), unit]);
        let [a, b, c, d, e, f, g, h, ..] = *digest.as_bytes();
        // Of 2^64, like every other draw of the project.
        u64::from_le_bytes([a, b, c, d, e, f, g, h]) as f64 / 2f64.powi(64)
    };
    let mut splits: Vec<Split> = roots
        .iter()
        .map(|&root| if draw(root) < holdout { Split::Dev } else { Split::Train })
        .collect();

    let of = |kinds: &[RowKind]| {
        let those = rows.iter().zip(&roots).filter(|(row, _)| kinds.contains(&row.kind()));
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
fn components(rows: &[Row], candidates: &[Candidate]) -> Vec<usize> {
    let mut parents: Vec<usize> = (0..rows.len()).collect();
    let mut first_with: BTreeMap<Digest, usize> = BTreeMap::new();
    for (nth, row) in rows.iter().enumerate() {
        for tie in ties(row, candidates) {
            let other = *first_with.entry(tie).or_insert(nth);
            join(&mut parents, other, nth);
        }
    }
    (0..rows.len()).map(|nth| root(&mut parents, nth)).collect()
}

/// Everything that must not be on both sides.
fn ties(row: &Row, candidates: &[Candidate]) -> Vec<Digest> {
    let tie = |kind: &str, name: &str| Digest::of_parts([kind, name].map(str::as_bytes));
    let prompt = |prompt: &[Message]| tie("prompt", &without_numbers(&canonical_json(prompt)));
    let mut ties: Vec<Digest> = row.prompts().map(prompt).collect();
    for &nth in [row.candidate].iter().chain(&row.others) {
        let candidate = &candidates[nth];
        ties.push(tie("trajectory", candidate.trajectory.as_str()));
        ties.extend(candidate.session.iter().map(|session| tie("session", session)));
        ties.extend(candidate.subject.iter().map(|subject| tie("subject", subject)));
    }
    ties
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
