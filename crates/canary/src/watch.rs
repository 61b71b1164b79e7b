//! One release under observation: its evidence, folded from the journal in the order of commits.

use std::collections::HashSet;

use serde_json::Value;
use understudy_ident::{ReleaseId, StepId};
use understudy_journal::{Arrival, Entry, Journal};
use understudy_registry::{AuditEntry, ReleaseRecord};
use understudy_router::{ArmSummary, Evidence, Judgement, Observation, Side, judge};
use understudy_trajectory::{Outcome, Step};

use crate::{
    CanaryError, LatencyLimits, Rules,
    attempts::{self, Attempt},
    early::Early,
    observe,
};

/// Records read at a time.
const PAGE: usize = 512;

/// The key under which a decision notes how far the journal had been read.
pub(crate) const READ_TO: &str = "journal_seq";

/// The key under which the beginning of a ramp notes what counts as slow.
pub(crate) const SLOW: &str = "latency_limits";

#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) release: ReleaseId,
    pub(crate) rules: Rules,
    /// As they were frozen when the candidate came on stage.
    pub(crate) slow: LatencyLimits,
    pub(crate) was_staged: bool,
    /// Releases of the same candidate before this one, whose evidence goes on.
    earlier: Vec<Attempt>,
    /// After which record this one's own begins, and when, as long as that is still to be replayed.
    begins: Option<(u64, i64)>,
    evidence: Evidence,
    /// The last record folded in.
    pub(crate) read_to: u64,
    /// The release's revision as of which this knows what people did.
    pub(crate) revision: u64,
    /// When people let the release go on, still to be replayed, in order.
    resumed: Vec<Resumed>,
    /// What was before is not compared, because the comparison was not valid.
    void_before: Option<i64>,
    /// Steps entered after the record of that number, still to be replayed, in order.
    entered: Vec<(u64, u32)>,
    /// Analysed steps seen so far; an outcome counts once its step has been seen. Their names only:
    /// a ramp may last for days, and the journal keeps the rest.
    seen: HashSet<StepId>,
    /// Outcomes whose step has not been seen yet.
    early: Early,
}

#[derive(Debug, Clone, Copy)]
struct Resumed {
    at_ms: i64,
    /// It had been paused because its comparison was not valid.
    is_void: bool,
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
        let entered = of_release("release.advance")
            .filter_map(|entry| {
                let step = entry.detail.get("step").and_then(Value::as_u64)?;
                Some((read_to(entry)?, step as u32))
            })
            .collect();
        let rules = Rules::read(release)?;
        let staged = of_release("release.stage").next();
        let begins = staged.map(|staged| {
            // A release that an earlier program staged does not say, and is read from the beginning.
            (read_to(staged).unwrap_or(0), staged.at.as_millisecond())
        });
        let earlier = attempts::before(release, audit);
        let first = begins.map_or(0, |(from, _)| from);
        let first = earlier.iter().map(|attempt| attempt.from).fold(first, u64::min);
        let evidence = Evidence::under(&rules.policy);
        let of_release = audit.iter().filter(|entry| entry.subject == release.id.as_str());
        Ok(Self {
            release: release.id.clone(),
            evidence,
            slow: staged.and_then(frozen).unwrap_or_else(|| LatencyLimits::said(&rules)),
            rules,
            was_staged: staged.is_some(),
            earlier,
            begins,
            revision: release.revision,
            resumed: resumed(of_release),
            void_before: None,
            read_to: first,
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
        self.go_on(i64::MAX);
        Ok(any)
    }

    /// Whether time alone may have changed the verdict.
    pub(crate) fn is_over_age(&mut self, now_ms: i64) -> bool {
        self.evidence.tell_time(now_ms);
        self.rules.policy.max_age_ms.is_some_and(|most| self.evidence.age_ms() >= most)
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
        if let Some((from, at_ms)) = self.begins
            && from <= read_to
        {
            self.begins = None;
            self.evidence.begin(at_ms);
        }
        while let Some((at, step)) = self.entered.first().copied()
            && at <= read_to
        {
            self.entered.remove(0);
            self.enter(step);
        }
    }

    /// Carries out what people said up to a moment. A comparison that was void begins anew, at the same
    /// step; any other goes on, with new patience.
    fn go_on(&mut self, until_ms: i64) {
        while let Some(Resumed { at_ms, is_void }) = self.resumed.first().copied()
            && at_ms <= until_ms
        {
            self.resumed.remove(0);
            if is_void {
                let step = self.evidence.step();
                self.evidence = Evidence::under(&self.rules.policy);
                self.evidence.enter_step(step);
                self.void_before = Some(at_ms);
            }
            self.evidence.go_on(at_ms);
        }
    }

    /// The slice of the comparison that a step belongs to, and its unit's name there. In another
    /// attempt a unit was drawn anew, so it is another unit.
    fn place(&self, step: &Step) -> Option<(Side, Option<String>)> {
        if let Some(side) = observe::side(step, self.release.as_str()) {
            return Some((side, None));
        }
        let unit = &step.assignment.as_ref()?.unit;
        self.earlier.iter().find_map(|attempt| {
            let side = observe::side(step, attempt.release.as_str())?;
            Some((side, Some(format!("{} {unit}", attempt.release))))
        })
    }

    fn observe(&mut self, unit: Option<String>, seen: Observation) -> Result<(), CanaryError> {
        let unit = unit.unwrap_or_else(|| seen.unit.clone());
        Ok(self.evidence.observe(&Observation { unit, ..seen })?)
    }

    fn is_void(&self, step: &Step) -> bool {
        self.void_before.is_some_and(|at| step.at.as_millisecond() < at)
    }

    fn fold(&mut self, journal: &Journal, arrival: Arrival) -> Result<bool, CanaryError> {
        match arrival.entry {
            Entry::Step(step) => self.fold_step(journal, *step),
            Entry::Outcome(outcome) => self.fold_outcome(journal, outcome),
        }
    }

    fn fold_step(&mut self, journal: &Journal, step: Step) -> Result<bool, CanaryError> {
        let Some((side, unit)) = self.place(&step) else { return Ok(false) };
        if unit.is_none() {
            self.go_on(step.at.as_millisecond());
        }
        if self.is_void(&step) {
            return Ok(false);
        }
        let seen = observe::of_reply(&step, side, (&self.rules, &self.slow));
        self.observe(unit, seen)?;
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
        let Some((side, unit)) = self.place(step) else { return Ok(false) };
        if self.is_void(step) {
            return Ok(false);
        }
        if !self.seen.contains(&step.id) {
            // It comes later in the log.
            self.early.wait(outcome);
            return Ok(false);
        }
        let policy = self.rules.reward_policy();
        self.observe(unit, observe::of_outcome(step, &outcome, side, policy))?;
        Ok(true)
    }
}

/// How far the journal had been read when something was decided.
pub(crate) fn read_to(entry: &AuditEntry) -> Option<u64> {
    entry.evidence.as_ref()?.get(READ_TO).and_then(Value::as_u64)
}

/// What counts as slow, as it was noted when the candidate came on stage.
fn frozen(staged: &AuditEntry) -> Option<LatencyLimits> {
    serde_json::from_value(staged.evidence.as_ref()?.get(SLOW)?.clone()).ok()
}

/// Each time that a person let a release go on.
fn resumed<'a>(of_release: impl Iterator<Item = &'a AuditEntry>) -> Vec<Resumed> {
    let mut is_void = false;
    let mut resumed = Vec::new();
    for entry in of_release {
        match entry.action.as_str() {
            "release.pause" => is_void = entry.detail["paused_because"] == "invalid",
            "release.resume" => {
                resumed.push(Resumed { at_ms: entry.at.as_millisecond(), is_void });
                is_void = false;
            }
            _ => {}
        }
    }
    resumed
}
