//! One release under observation: its evidence, folded from the journal in the order of commits.

use std::collections::HashSet;

use serde_json::Value;
use understudy_ident::{ReleaseId, StepId};
use understudy_journal::{Arrival, Entry, Journal};
use understudy_registry::{AuditEntry, ReleaseRecord};
use understudy_router::{ArmSummary, Evidence, Judgement, Side, judge};
use understudy_trajectory::{Outcome, Step};

use crate::{CanaryError, Rules, early::Early, observe};

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
    /// Analysed steps seen so far; an outcome counts once its step has been seen. Their names only:
    /// a ramp may last for days, and the journal keeps the rest.
    seen: HashSet<StepId>,
    /// Outcomes whose step has not been seen yet.
    early: Early,
}

impl Watch {
    /// Begins where the release began: what the journal held before its candidate was on stage is
    /// not about it. `audit` tells where that was, and when each step was entered, so that reading
    /// everything again after a restart credits evidence to the same steps.
    pub(crate) fn begin(
        release: &ReleaseRecord,
        audit: &[AuditEntry],
    ) -> Result<Self, CanaryError> {
        let of_release = |action: &'static str| {
            let of_release = audit.iter().filter(|entry| entry.subject == release.id.as_str());
            of_release.filter(move |entry| entry.action == action)
        };
        let read_to =
            |entry: &AuditEntry| entry.evidence.as_ref()?.get(READ_TO).and_then(Value::as_u64);
        let entered = of_release("release.advance")
            .filter_map(|entry| {
                let step = entry.detail.get("step").and_then(Value::as_u64)?;
                Some((read_to(entry)?, step as u32))
            })
            .collect();
        // A release that an earlier program staged does not say, and is read from the beginning.
        let begun = of_release("release.stage").find_map(read_to).unwrap_or(0);
        let rules = Rules::read(release)?;
        Ok(Self {
            release: release.id.clone(),
            evidence: Evidence::under(&rules.policy),
            rules,
            read_to: begun,
            entered,
            seen: HashSet::new(),
            early: Early::default(),
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

    pub(crate) fn summary(&self, side: Side) -> ArmSummary {
        self.evidence.summary(side).clone()
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
        self.seen.insert(step.id.clone());
        for outcome in self.early.about(&step) {
            self.fold_outcome(journal, outcome)?;
        }
        Ok(true)
    }

    fn fold_outcome(&mut self, journal: &Journal, outcome: Outcome) -> Result<bool, CanaryError> {
        let Some(judged) = journal.judged(&outcome)? else {
            self.early.wait(outcome);
            return Ok(false);
        };
        let step = &judged.step;
        // Its step is of another release, or of none.
        let Some(side) = observe::side(step, self.release.as_str()) else { return Ok(false) };
        if !self.seen.contains(&step.id) {
            // It comes later in the log.
            self.early.wait(outcome);
            return Ok(false);
        }
        let policy = self.rules.reward_policy();
        self.evidence.observe(&observe::of_outcome(step, &outcome, side, policy))?;
        Ok(true)
    }
}
