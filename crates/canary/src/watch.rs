//! One release under observation: its evidence, folded from the journal in the order of commits.

use std::collections::BTreeMap;

use serde_json::Value;
use understudy_ident::{ReleaseId, StepId};
use understudy_journal::{Arrival, Entry, Journal};
use understudy_registry::{AuditEntry, ReleaseRecord};
use understudy_router::{Evidence, Judgement, Side, judge};
use understudy_trajectory::{Outcome, Step};

use crate::{CanaryError, Rules, observe};

/// Records read at a time.
const PAGE: usize = 512;

/// The key under which a decision notes how far the journal had been read.
pub(crate) const READ_TO: &str = "journal_seq";

#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) release: ReleaseId,
    pub(crate) rules: Rules,
    evidence: Evidence,
    /// The last record folded in.
    pub(crate) read_to: u64,
    /// Steps entered after the record of that number, still to be replayed, in order.
    entered: Vec<(u64, u32)>,
    /// Analysed steps seen so far; an outcome counts once its step has been seen.
    seen: BTreeMap<StepId, (Side, Step)>,
    /// Outcomes whose step has not been seen yet.
    early: Vec<Outcome>,
}

impl Watch {
    /// Begins where the release began. `audit` tells when each step was entered, so that reading
    /// everything again after a restart credits evidence to the same steps.
    pub(crate) fn begin(
        release: &ReleaseRecord,
        audit: &[AuditEntry],
    ) -> Result<Self, CanaryError> {
        let of_release = audit.iter().filter(|entry| entry.subject == release.id.as_str());
        let entered = of_release
            .filter(|entry| entry.action == "release.advance")
            .filter_map(|entry| {
                let read_to = entry.evidence.as_ref()?.get(READ_TO)?.as_u64()?;
                let step = entry.detail.get("step").and_then(Value::as_u64)?;
                Some((read_to, step as u32))
            })
            .collect();
        let rules = Rules::read(release)?;
        Ok(Self {
            release: release.id.clone(),
            evidence: Evidence::under(&rules.policy),
            rules,
            read_to: 0,
            entered,
            seen: BTreeMap::new(),
            early: Vec::new(),
        })
    }

    /// Folds in what has arrived; true when there was anything.
    pub(crate) fn read(&mut self, journal: &Journal) -> Result<bool, CanaryError> {
        let mut any = false;
        loop {
            let arrivals = journal.follow(self.read_to, PAGE)?;
            let Some(last) = arrivals.last() else { break };
            let read_to = last.seq;
            for arrival in arrivals {
                self.replay_steps(arrival.seq - 1);
                any |= self.fold(journal, arrival)?;
            }
            self.read_to = read_to;
        }
        self.replay_steps(self.read_to);
        Ok(any)
    }

    pub(crate) fn judge(&self, step: u32) -> Judgement {
        judge(&self.rules.policy, &self.evidence, step as usize)
    }

    /// Canary units whose reward counts already.
    #[cfg(test)]
    pub(crate) fn rewarded(&self) -> u64 {
        self.evidence.summary(Side::Canary).rewarded
    }

    pub(crate) fn enter(&mut self, step: u32) {
        self.evidence.enter_step(step as usize);
    }

    fn replay_steps(&mut self, read_to: u64) {
        while let Some((at, step)) = self.entered.first().copied()
            && at <= read_to
        {
            self.entered.remove(0);
            self.enter(step);
        }
    }

    fn fold(&mut self, journal: &Journal, arrival: Arrival) -> Result<bool, CanaryError> {
        match arrival.entry {
            Entry::Step(step) => self.fold_step(journal, *step),
            Entry::Outcome(outcome) => self.fold_outcome(journal, outcome),
        }
    }

    fn fold_step(&mut self, journal: &Journal, step: Step) -> Result<bool, CanaryError> {
        let Some(side) = observe::side(&step, self.release.as_str()) else { return Ok(false) };
        self.evidence.observe(&observe::of_reply(&step, side, &self.rules))?;
        self.seen.insert(step.id.clone(), (side, step));
        for outcome in std::mem::take(&mut self.early) {
            self.fold_outcome(journal, outcome)?;
        }
        Ok(true)
    }

    fn fold_outcome(&mut self, journal: &Journal, outcome: Outcome) -> Result<bool, CanaryError> {
        let Some(judged) = journal.judged(&outcome)? else {
            self.early.push(outcome);
            return Ok(false);
        };
        match self.seen.get(&judged.step.id) {
            Some((side, step)) => {
                let policy = self.rules.reward_policy();
                self.evidence.observe(&observe::of_outcome(step, &outcome, *side, policy))?;
                Ok(true)
            }
            // Its step is of another release, or comes later in the log.
            None if observe::side(&judged.step, self.release.as_str()).is_some() => {
                self.early.push(outcome);
                Ok(false)
            }
            None => Ok(false),
        }
    }
}
