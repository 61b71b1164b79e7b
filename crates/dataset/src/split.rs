//! Train and dev, without anything on both sides.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
};

use understudy_ident::Timestamp;
use understudy_manifest::{Data, Split};

use crate::{
    balance::LeftOut,
    components::{Components, sizes},
    key::Key,
    ledger::{Ledger, Tally},
    minhash,
    row::RowKind,
    selection::Fact,
    written::Written,
};

/// Why a row is in neither split.
pub(crate) const NEWER: &str = "newer_than_the_cut";

/// How much is on both sides, by what it is. Anything but zeros is a defect.
pub(crate) type Leakage = BTreeMap<String, u64>;

/// The splits of the rows that are left.
pub(crate) struct Division {
    pub(crate) splits: Vec<Split>,
    pub(crate) leakage: Leakage,
    /// Where the newest steps begin, if they are held out.
    pub(crate) cut: Option<Timestamp>,
}

/// Where each row goes. Rows that share a trajectory, session, subject, problem or prompt and rows that are
/// near-duplicates are one component, which goes to dev as a whole, with probability `holdout`.
///
/// The draw is a keyed hash of the trajectory of the component's oldest row, so it does not depend
/// on what else there is, and a newer version holds out what an older one did. A greeting that
/// opens every session ties all of them together; the count `largest_component` tells.
///
/// With `holdout_newest`, components that began among the newest steps go to dev as well, and rows of
/// older ones that are as new are left out of train, so that dev is what train cannot have foreseen.
pub(crate) fn split(
    rows: &mut Vec<Written>,
    facts: &[Fact],
    data: &Data,
    ledger: &mut Ledger,
) -> (Division, Vec<LeftOut>) {
    let near = minhash::ties(rows.len(), |nth| Some((0, rows[nth].sketch.as_deref()?)));
    let roots = components(rows, facts, &near);
    let ages = Ages::of(rows, facts, &roots, data.holdout_newest);
    let splits = assigned(rows, &roots, data.holdout, &ages);
    let stays = |nth: usize| splits[nth] == Split::Dev || !ages.is_newer(&rows[nth], facts);
    let kept: Vec<bool> = (0..rows.len()).map(stays).collect();

    let components = sizes(roots.iter().copied());
    let mut tally = Tally::default();
    tally.add_many("components", components.len() as u64);
    let largest = components.values().max().copied().unwrap_or_default();
    tally.add_many("largest_component", largest as u64);
    let mut left_out = Vec::new();
    for ((row, split), kept) in rows.iter().zip(&splits).zip(&kept) {
        tally.add(if *kept { split.as_str() } else { NEWER });
        left_out.extend((!kept).then_some((row.place, NEWER)));
    }
    let mut leakage = leakage(rows, facts, &splits, (&near, &kept));
    let before = rows.len();
    let only_kept = |nth: &mut usize| {
        *nth += 1;
        kept[*nth - 1]
    };
    let (mut of_rows, mut of_splits) = (0, 0);
    let mut splits = splits;
    rows.retain(|_| only_kept(&mut of_rows));
    splits.retain(|_| only_kept(&mut of_splits));
    if ages.cut.is_some() {
        let trained = rows.iter().zip(&splits).filter(|(_, split)| **split == Split::Train);
        let newer = trained.filter(|(row, _)| ages.is_newer(row, facts)).count();
        leakage.insert("rows_newer_than_the_cut".to_owned(), newer as u64);
    }
    ledger.close("split", before, rows.len(), tally);
    (Division { splits, leakage, cut: ages.cut }, left_out)
}

fn assigned(rows: &[Written], roots: &[usize], holdout: f64, ages: &Ages) -> Vec<Split> {
    let of_root = |&root: &usize| {
        let held_out = ages.began_after(root) || rows[root].draw < holdout;
        if held_out { Split::Dev } else { Split::Train }
    };
    let mut splits: Vec<Split> = roots.iter().map(of_root).collect();
    let in_train = |root: &usize| splits[*root] == Split::Train;
    let mut teachers = teachers(rows, roots);
    if !teachers.keys().any(in_train) {
        // With few components the draw may hold out everything, which would leave nothing to learn.
        teachers.retain(|&root, _| !ages.began_after(root));
        let largest = teachers.iter().max_by_key(|&(root, n)| (n, Reverse(root)));
        let largest = largest.map(|(&root, _)| root);
        for (split, root) in splits.iter_mut().zip(roots) {
            if Some(*root) == largest {
                *split = Split::Train;
            }
        }
    }
    splits
}

/// The sizes of the components that teach: of the kinds that teach most, where there are any.
fn teachers(rows: &[Written], roots: &[usize]) -> BTreeMap<usize, usize> {
    let of = |kinds: &[RowKind]| {
        let those = rows.iter().zip(roots).filter(|(row, _)| kinds.contains(&row.kind));
        sizes(those.map(|(_, &root)| root))
    };
    let by_rank = [&[RowKind::Sft, RowKind::Pairs][..], &[RowKind::Groups], &[RowKind::Prompts]];
    by_rank.into_iter().map(of).find(|found| !found.is_empty()).unwrap_or_default()
}

/// What began when.
struct Ages {
    /// Where the newest steps begin.
    cut: Option<Timestamp>,
    /// When the oldest step of each component was, by the component's first row.
    began: BTreeMap<usize, Timestamp>,
}

impl Ages {
    fn of(rows: &[Written], facts: &[Fact], roots: &[usize], newest: f64) -> Self {
        let mut began: BTreeMap<usize, Timestamp> = BTreeMap::new();
        if newest == 0.0 {
            return Self { cut: None, began };
        }
        for (row, &root) in rows.iter().zip(roots) {
            for at in row.steps().map(|nth| facts[nth].at) {
                let oldest = began.entry(root).or_insert(at);
                *oldest = at.min(*oldest);
            }
        }
        Self { cut: cut(rows, facts, newest), began }
    }

    fn began_after(&self, root: usize) -> bool {
        self.cut.zip(self.began.get(&root)).is_some_and(|(cut, began)| *began >= cut)
    }

    fn is_newer(&self, row: &Written, facts: &[Fact]) -> bool {
        self.cut.is_some_and(|cut| row.steps().any(|nth| facts[nth].at >= cut))
    }
}

/// When the oldest of the newest steps was. Steps of which there is nothing but the prompt do not
/// count where there are others: they would move it.
fn cut(rows: &[Written], facts: &[Fact], newest: f64) -> Option<Timestamp> {
    let taught = rows.iter().any(|row| !row.is_prompt());
    let those = rows.iter().filter(|row| !taught || !row.is_prompt());
    let steps: BTreeSet<usize> = those.map(|row| row.candidate).collect();
    let held_out = (steps.len() as f64 * newest).round().max(1.0) as usize;
    // Candidates are ordered by age.
    Some(facts[*steps.iter().nth_back(held_out - 1)?].at)
}

/// Counts by the finished splits, whatever made them, the rows that are kept.
fn leakage(
    rows: &[Written],
    facts: &[Fact],
    splits: &[Split],
    (near, kept): (&[(usize, usize)], &[bool]),
) -> Leakage {
    let mut sides: HashMap<(&str, Key), (bool, bool)> = HashMap::new();
    for ((row, split), _) in rows.iter().zip(splits).zip(kept).filter(|(_, kept)| **kept) {
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
    let both = near.iter().filter(|(a, b)| kept[*a] && kept[*b]);
    let straddling = both.filter(|(a, b)| splits[*a] != splits[*b]).count();
    leakage.insert("near_duplicates".to_owned(), straddling as u64);
    leakage
}

/// For each row the first row of its component, by which it is named: the oldest.
fn components(rows: &[Written], facts: &[Fact], near: &[(usize, usize)]) -> Vec<usize> {
    let mut components = Components::apart(rows.len());
    let mut first_with: HashMap<(&str, Key), usize> = HashMap::new();
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
    let of_steps = row.steps().flat_map(|nth| {
        let Fact { trajectory, session, subject, problem, .. } = &facts[nth];
        let trajectory = ("trajectories", Some(*trajectory));
        let problem = ("problems", problem.map(|(name, _)| name));
        let ties = [trajectory, ("sessions", *session), ("subjects", *subject), problem];
        ties.into_iter().filter_map(|(kind, key)| Some((kind, key?)))
    });
    row.prompts.iter().map(|prompt| ("prompts", *prompt)).chain(of_steps)
}
