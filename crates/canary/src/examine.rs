//! What a release rests on at this moment, for whoever asks: the same reading as the controller's,
//! by the same rule, and nothing is decided.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use understudy_ident::{TaskName, Timestamp};
use understudy_journal::Journal;
use understudy_registry::{Registry, ReleaseRecord, ReleaseState};
use understudy_router::{ArmSummary, Judgement, Side};

use crate::{CanaryError, LatencyLimits, watch::Watch};

/// Reads on from where it was asked last, so that asking often costs little.
#[derive(Debug, Default)]
pub struct Examiner {
    /// With the step of the ramp that each was begun at.
    watches: BTreeMap<TaskName, (u32, Watch)>,
}

/// An open release as its evidence stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Examined {
    /// The journal's record up to which this holds.
    pub journal_seq: u64,
    pub judgement: Judgement,
    /// What counts as slow; none as long as the candidate is not on stage.
    pub latency_limits: Option<LatencyLimits>,
    pub canary: ArmSummary,
    pub baseline: ArmSummary,
}

/// Something that was decided about a release, with what it rested on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Decided {
    pub at: Timestamp,
    pub action: String,
    pub owner: String,
    pub reason: String,
    pub evidence: Option<Value>,
}

impl Examiner {
    /// `None` where the release is closed: its evidence is what it was decided by.
    pub fn examine(
        &mut self,
        registry: &Registry,
        journal: &Journal,
        release: &ReleaseRecord,
    ) -> Result<Option<Examined>, CanaryError> {
        let task = &release.task;
        if !release.state.is_open() {
            self.watches.remove(task);
            return Ok(None);
        }
        let is_staging = release.state == ReleaseState::Staging;
        let is_same = |(step, watch): &(u32, Watch)| {
            let knows_stage = watch.was_staged || is_staging;
            watch.release == release.id && *step == release.step && knows_stage
        };
        if !self.watches.get(task).is_some_and(is_same) {
            // Where in the journal a step was entered is in the audit chain, so that outcomes are
            // credited to the steps that the controller credits them to.
            let audit = registry.audit(Some(task))?;
            self.watches.insert(task.clone(), (release.step, Watch::begin(release, &audit)?));
        }
        let Some((_, watch)) = self.watches.get_mut(task) else { return Ok(None) };
        watch.read(journal)?;
        Ok(Some(Examined {
            journal_seq: watch.read_to,
            judgement: watch.judge(release.step),
            latency_limits: watch.was_staged.then(|| watch.slow.clone()),
            canary: watch.summary(Side::Canary),
            baseline: watch.summary(Side::Baseline),
        }))
    }
}

/// Everything that was decided about a release, from its start.
pub fn decided(registry: &Registry, release: &ReleaseRecord) -> Result<Vec<Decided>, CanaryError> {
    let audit = registry.audit(Some(&release.task))?;
    let of_release = audit.into_iter().filter(|entry| entry.subject == release.id.as_str());
    Ok(of_release
        .map(|entry| Decided {
            at: entry.at,
            action: entry.action,
            owner: entry.actor,
            reason: entry.reason,
            evidence: entry.evidence,
        })
        .collect())
}
