//! The stages in order.

use std::collections::BTreeSet;

use understudy_ident::{TaskName, Timestamp};
use understudy_manifest::{Data, DataSource, DatasetManifest, Redact};
use understudy_redact::Policy;
use understudy_trajectory::{RewardPolicy, Trajectory};

use crate::{
    DatasetError, Draft, SuiteFingerprints,
    candidate::Selection,
    decontaminate::{assert_clean, decontaminate},
    dedupe::dedupe,
    groups,
    ledger::{Ledger, Tally},
    mask::redact,
    row::{Row, RowKind},
    rules,
    split::split,
};

/// What to build a dataset of, and how.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub task: &'a TaskName,
    pub data: &'a Data,
    /// Keys the split.
    pub seed: u64,
    /// What is read, for the manifest: a journal up to a record, or a file by digest.
    pub sources: &'a [String],
    pub suites: &'a [SuiteFingerprints],
    /// What `since` counts back from.
    pub now: Timestamp,
}

/// Builds from trajectories in any order.
pub fn build(
    request: Request<'_>,
    trajectories: impl IntoIterator<Item = Trajectory>,
) -> Result<Draft, DatasetError> {
    let mut builder = Builder::new(request)?;
    for trajectory in trajectories {
        builder.add(trajectory);
    }
    builder.finish()
}

/// A build that is fed one trajectory at a time, for sources that can fail in between.
#[derive(Debug)]
pub struct Builder<'a> {
    request: Request<'a>,
    reward: RewardPolicy,
    selection: Selection,
}

impl<'a> Builder<'a> {
    /// Refuses settings that cannot be followed before anything is read.
    pub fn new(request: Request<'a>) -> Result<Self, DatasetError> {
        let data = request.data;
        if let DataSource::Version(version) = &data.source {
            return Err(DatasetError::AlreadyFrozen(version.clone()));
        }
        let reward = RewardPolicy::named(&data.reward)
            .ok_or_else(|| DatasetError::UnknownPolicy(data.reward.clone()))?;
        let selection = Selection::new(request.task, not_before(data, request.now)?);
        Ok(Self { request, reward, selection })
    }

    pub fn add(&mut self, trajectory: Trajectory) {
        for judged in trajectory.steps {
            self.selection.add(judged);
        }
    }

    pub fn finish(self) -> Result<Draft, DatasetError> {
        let Self { request, reward, selection } = self;
        let Request { task, data, .. } = request;
        let policy = match data.redact {
            Redact::Standard => Policy::Standard,
            Redact::Off => Policy::Off,
        };
        let mut ledger = Ledger::default();
        let selected = selection.finish(&mut ledger);
        let candidates = &selected.candidates;
        let mut rows = rules::rows(candidates, reward, data.min_reward, &mut ledger);
        groups::append(&mut rows, &selected, reward, &mut ledger);
        let redacted = redact(&mut rows, policy, &mut ledger);
        dedupe(&mut rows, &mut ledger);
        decontaminate(&mut rows, request.suites, &mut ledger);
        limit(&mut rows, data.limit, &mut ledger);
        enough(&rows, task, data.min_verified)?;
        teaches(&rows, task)?;
        let splits = split(&rows, candidates, data.holdout, request.seed, &mut ledger);
        assert_clean(&rows, request.suites)?;

        let mut against: Vec<_> = request.suites.iter().map(SuiteFingerprints::suite).collect();
        against.sort_unstable();
        against.dedup();
        let mut sources = request.sources.to_vec();
        sources.sort();
        let manifest = DatasetManifest {
            schema: DatasetManifest::SCHEMA,
            task: task.clone(),
            sources,
            reward_policy: reward.id().to_owned(),
            redaction: policy.id().to_owned(),
            holdout: data.holdout,
            decontaminated_against: against,
            stages: ledger.into_stages(),
            redacted,
            files: Vec::new(),
        };
        Ok(Draft::new(manifest, &rows, &splits))
    }
}

fn not_before(data: &Data, now: Timestamp) -> Result<Option<Timestamp>, DatasetError> {
    let Some(since) = &data.since else { return Ok(None) };
    let wrong = || DatasetError::Since(since.clone());
    let age = data.since_ms().ok_or_else(wrong)?;
    let earliest = now.as_millisecond().saturating_sub(age);
    Timestamp::from_millisecond(earliest).map(Some).map_err(|_| wrong())
}

/// Keeps every row of the newest `limit` steps.
fn limit(rows: &mut Vec<Row>, limit: Option<u64>, ledger: &mut Ledger) {
    let before = rows.len();
    let mut tally = Tally::default();
    if let Some(limit) = limit {
        // Candidates are ordered by age.
        let steps: BTreeSet<usize> = rows.iter().map(|row| row.candidate).collect();
        let newest: BTreeSet<usize> = steps.into_iter().rev().take(limit as usize).collect();
        rows.retain(|row| newest.contains(&row.candidate));
        tally.add_many("older", (before - rows.len()) as u64);
    }
    ledger.close("limit", before, rows.len(), tally);
}

/// An example is verified by the outcome that made it a row to imitate or to prefer, or told it from
/// the rest of its group.
fn enough(rows: &[Row], task: &TaskName, needed: u64) -> Result<(), DatasetError> {
    let taught = rows.iter().filter(|row| row.kind() != RowKind::Labels);
    let found = taught.map(|row| row.candidate).collect::<BTreeSet<_>>().len() as u64;
    if found < needed {
        let (task, missing) = (task.clone(), needed - found);
        return Err(DatasetError::NotEnough { task, needed, found, missing });
    }
    Ok(())
}

fn teaches(rows: &[Row], task: &TaskName) -> Result<(), DatasetError> {
    if rows.iter().any(|row| row.kind() != RowKind::Labels) {
        return Ok(());
    }
    Err(DatasetError::Nothing { task: task.clone(), labels: rows.len() })
}
