//! What came after an earlier version of a dataset was cut, and belongs before it.

use std::{collections::BTreeSet, path::Path};

use anyhow::Result;
use understudy_dataset::{Beside, list};
use understudy_ident::{StepId, TaskName, Timestamp};
use understudy_journal::{Arrival, Entry, Journal};

/// How a version names how far the journal went that it was made of.
const JOURNAL: &str = "journal up to record ";

/// How many records are looked at at once.
const PAGE: usize = 1024;

pub(crate) fn source(until: u64) -> String {
    format!("{JOURNAL}{until}")
}

/// The steps of a task that the newest of the versions below `root` would have had, by their time,
/// and that came or had something said of them after the record it was cut at, up to `until`. What
/// was late for that version stays so.
pub(crate) fn late(
    journal: &Journal,
    root: &Path,
    task: &TaskName,
    until: u64,
) -> Result<BTreeSet<StepId>> {
    let mut newest = None;
    let mut late = BTreeSet::new();
    for version in list(root)?.into_iter().filter(|version| version.name == *task) {
        let beside = Beside::of(root, &version)?;
        let cut =
            beside.sources.iter().find_map(|source| source.strip_prefix(JOURNAL)?.parse().ok());
        // A later one is of a build that has come further than this one may.
        let Some(cut) = cut.filter(|cut| *cut <= until) else { continue };
        if newest < Some(cut) {
            newest = Some(cut);
            late.clear();
        }
        if newest == Some(cut) {
            late.extend(beside.late);
        }
    }
    let Some(cut) = newest else { return Ok(late) };
    if let Some(at) = journal.received_at(cut)? {
        arrived(journal, task, (cut, at), until, &mut late)?;
    }
    Ok(late)
}

/// Adds the steps up to `at` of which anything came after record `cut`.
fn arrived(
    journal: &Journal,
    task: &TaskName,
    (mut cut, at): (u64, Timestamp),
    until: u64,
    late: &mut BTreeSet<StepId>,
) -> Result<()> {
    loop {
        let arrivals = journal.follow(cut, PAGE)?;
        let Some(last) = arrivals.last().map(|arrival| arrival.seq) else { return Ok(()) };
        for arrival in arrivals.into_iter().filter(|arrival| arrival.seq <= until) {
            let step = match arrival {
                Arrival { entry: Entry::Step(step), .. } => Some(*step),
                outcome => journal.judged_at(&outcome)?.map(|judged| judged.step),
            };
            late.extend(
                step.filter(|step| step.task == *task && step.at <= at).map(|step| step.id),
            );
        }
        if last >= until {
            return Ok(());
        }
        cut = last;
    }
}
