//! How much of a version any one prompt, answer, tool or model may make.
//!
//! Every cap keeps the newest steps, with all rows of them that are under it. Prompts are counted
//! apart from the rest: many more steps were asked than judged, and would push these out.

use std::collections::{BTreeMap, BTreeSet};

use understudy_manifest::{Balanced, Data};

use crate::{
    components::Components,
    key::Key,
    ledger::{Ledger, Tally},
    minhash::{self, Sketch},
    row::RowKind,
    selection::Fact,
    spill::Place,
    written::Written,
};

/// A row that a stage left out, and why.
pub(crate) type LeftOut = (Place, &'static str);

/// Keeps every row of `limit` steps: of the newest, but for the share that is replayed.
pub(crate) fn limit(rows: &mut Vec<Written>, data: &Data, ledger: &mut Ledger) {
    let before = rows.len();
    let mut tally = Tally::default();
    if let Some(limit) = data.limit {
        let replayed = (limit as f64 * data.replay) as u64;
        let all = vec![vec![Key::numbered(0)]; rows.len()];
        let newest = within(rows, &all, |_| limit - replayed);
        let kept = with_replayed(rows, newest, replayed as usize);
        keep(rows, &kept);
        tally.add_many("older", (before - rows.len()) as u64);
    }
    ledger.close("limit", before, rows.len(), tally);
}

/// These rows, and those of so many of the other steps, of prompts and of the rest, one after every
/// stretch of them that is as long as another.
fn with_replayed(rows: &[Written], newest: Vec<bool>, most: usize) -> Vec<bool> {
    let mut older: BTreeMap<bool, BTreeSet<usize>> = BTreeMap::new();
    for (row, _) in rows.iter().zip(&newest).filter(|(_, is_new)| !**is_new) {
        older.entry(row.is_prompt()).or_default().insert(row.candidate);
    }
    for steps in older.values_mut() {
        let (all, most) = (steps.len(), most.min(steps.len()));
        let mut nth = 0;
        steps.retain(|_| {
            nth += 1;
            nth * most / all > (nth - 1) * most / all
        });
    }
    let is_replayed = |row: &Written| older[&row.is_prompt()].contains(&row.candidate);
    rows.iter().zip(newest).map(|(row, is_new)| is_new || is_replayed(row)).collect()
}

/// One cap: its setting, why a row is over it, and who holds a row.
type Cap = (&'static str, &'static str, Option<u64>, fn(&[Written], &[Fact]) -> Vec<Vec<Key>>);

/// Holds every cap that is set to the rows that the one before left, and tells what each did.
/// Without one there is no stage, so a version without caps is what it was before there were any.
pub(crate) fn balance(
    rows: &mut Vec<Written>,
    facts: &[Fact],
    data: &Data,
    ledger: &mut Ledger,
) -> (BTreeMap<String, Balanced>, Vec<LeftOut>) {
    let caps: [Cap; 4] = [
        ("max_per_prompt", "over_the_cap_of_a_prompt", data.max_per_prompt, by_prompt),
        ("max_per_answer", "over_the_cap_of_an_answer", data.max_per_answer, by_answer),
        ("max_per_tool", "over_the_cap_of_a_tool", data.max_per_tool, by_tool),
        ("max_per_model", "over_the_cap_of_a_model", data.max_per_model, by_model),
    ];
    let all = rows.len();
    let (mut done, mut left_out) = (BTreeMap::new(), Vec::new());
    let mut tally = Tally::default();
    for (setting, why, most, holders) in caps {
        let Some(most) = most else { continue };
        let held = holders(rows, facts);
        let before = commonest(rows, &held);
        let kept = within(rows, &held, |_| most);
        let went = go(rows, &kept, why, &mut left_out);
        tally.add_many(why, went);
        let after = commonest(rows, &holders(rows, facts));
        done.insert(setting.to_owned(), balanced(most as f64, (before, after), went));
    }
    if let Some(most) = data.max_label_ratio {
        let why = "over_the_ratio_of_labels";
        let before = ratio(rows);
        let kept = even(rows, most);
        let went = go(rows, &kept, why, &mut left_out);
        tally.add_many(why, went);
        let after = ratio(rows);
        done.insert("max_label_ratio".to_owned(), balanced(most, (before, after), went));
    }
    if !done.is_empty() {
        ledger.close("balance", all, rows.len(), tally);
    }
    (done, left_out)
}

fn balanced(most: f64, (before, after): (f64, f64), rows: u64) -> Balanced {
    Balanced { most, before, after, rows }
}

/// Which rows are of the newest steps of all their holders, at most so many as prompts may have, or
/// as other rows may. Candidates are ordered by age.
pub(crate) fn within(
    rows: &[Written],
    holders: &[Vec<Key>],
    most: impl Fn(bool) -> u64,
) -> Vec<bool> {
    let oldest_kept: BTreeMap<(bool, Key), usize> = steps_of(rows, holders)
        .into_iter()
        .filter_map(|(holder, steps)| {
            let most = most(holder.0) as usize;
            Some((holder, *steps.iter().nth_back(most.checked_sub(1)?)?))
        })
        .collect();
    let is_within = |(row, holders): (&Written, &Vec<Key>)| {
        holders.iter().all(|holder| {
            let oldest = oldest_kept.get(&(row.is_prompt(), *holder));
            oldest.is_none_or(|oldest| row.candidate >= *oldest)
        })
    };
    rows.iter().zip(holders).map(is_within).collect()
}

/// The steps of each holder, of prompts and of the rest.
pub(crate) fn steps_of(
    rows: &[Written],
    holders: &[Vec<Key>],
) -> BTreeMap<(bool, Key), BTreeSet<usize>> {
    let mut steps: BTreeMap<_, BTreeSet<usize>> = BTreeMap::new();
    for (row, holders) in rows.iter().zip(holders) {
        for holder in holders {
            steps.entry((row.is_prompt(), *holder)).or_default().insert(row.candidate);
        }
    }
    steps
}

/// How many steps the holder of most has.
fn commonest(rows: &[Written], holders: &[Vec<Key>]) -> f64 {
    steps_of(rows, holders).values().map(BTreeSet::len).max().unwrap_or(0) as f64
}

fn keep(rows: &mut Vec<Written>, kept: &[bool]) {
    let mut kept = kept.iter();
    rows.retain(|_| kept.next().copied().unwrap_or(true));
}

/// Takes the rows that are not kept out, and tells how many.
pub(crate) fn go(
    rows: &mut Vec<Written>,
    kept: &[bool],
    why: &'static str,
    left_out: &mut Vec<LeftOut>,
) -> u64 {
    let before = rows.len();
    let over = rows.iter().zip(kept).filter(|(_, kept)| !**kept);
    left_out.extend(over.map(|(row, _)| (row.place, why)));
    keep(rows, kept);
    (before - rows.len()) as u64
}

/// Rows whose last turns are near-duplicates, whatever numbers are in them: a template that is
/// filled in anew is one prompt.
fn by_prompt(rows: &[Written], _: &[Fact]) -> Vec<Vec<Key>> {
    let turns: Vec<Option<Sketch>> =
        rows.iter().map(|row| row.sketch.as_deref().map(Sketch::of_turn_alone)).collect();
    let mut near = Components::apart(rows.len());
    let turn = |nth: usize| Some((u8::from(rows[nth].is_prompt()), turns[nth].as_ref()?));
    for (one, other) in minhash::ties(rows.len(), turn) {
        near.join(one, other);
    }
    // Groups have no sketch: what they are samples of is one prompt already.
    let own = near.firsts().into_iter().zip(&turns);
    own.map(|(first, turn)| turn.iter().map(|_| Key::numbered(first)).collect()).collect()
}

fn by_answer(rows: &[Written], _: &[Fact]) -> Vec<Vec<Key>> {
    rows.iter().map(|row| row.answer.into_iter().collect()).collect()
}

fn by_tool(rows: &[Written], _: &[Fact]) -> Vec<Vec<Key>> {
    rows.iter().map(|row| row.tools.to_vec()).collect()
}

/// A prompt is nobody's answer.
fn by_model(rows: &[Written], facts: &[Fact]) -> Vec<Vec<Key>> {
    let of = |row: &Written| match row.kind {
        RowKind::Prompts => Vec::new(),
        _ => vec![facts[row.candidate].model],
    };
    rows.iter().map(of).collect()
}

/// Of labels: what the commoner one says, how many there are of it, and of the other.
fn sides(rows: &[Written]) -> (bool, usize, usize) {
    let count = |says| rows.iter().filter(|row| row.label == Some(says)).count();
    let (wanted, unwanted) = (count(true), count(false));
    (wanted >= unwanted, wanted.max(unwanted), wanted.min(unwanted))
}

/// 0 where all labels say one thing, and no ratio can be told.
fn ratio(rows: &[Written]) -> f64 {
    let (_, common, rare) = sides(rows);
    if rare == 0 { 0.0 } else { common as f64 / rare as f64 }
}

/// Which rows stay when there are to be at most `most` of the commoner label for each of the rarer:
/// all where nobody said the rarer, because no labels are no better than labels of one kind.
fn even(rows: &[Written], most: f64) -> Vec<bool> {
    let (says, common, rare) = sides(rows);
    let room = (rare as f64 * most).floor() as usize;
    let mut over = if rare == 0 { 0 } else { common.saturating_sub(room) };
    let stays = |row: &Written| {
        // The oldest come first.
        let goes = over > 0 && row.label == Some(says);
        over -= usize::from(goes);
        !goes
    };
    rows.iter().map(stays).collect()
}
