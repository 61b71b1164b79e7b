//! What the units of both sides went through, folded into counts and sums.
//!
//! The unit of analysis is the unit of randomisation: a session with fifty requests is one unit, not
//! fifty, because its requests are alike. Whatever happens to a unit counts for the side it was
//! assigned to, also when something else answered in the end; leaving such units out would leave
//! out the hard ones. Several observations of one unit fold like this:
//!
//! - **reward**: the unit's value is the mean of its rewards so far;
//! - **success** (for the exact pair test): its *first* reward is at least 0.5. A later outcome may
//!   not change a bet that was already settled;
//! - **errors, latency, safety, behaviour**: the unit is marked once anything marked it, and stays so. A mark
//!   can only come later than its unit, which makes a test cautious, never too eager. Against an
//!   *absolute* limit only a unit's first reply counts: of twenty replies one is slower than the p95
//!   of replies in two units out of three, and there is nothing wrong with either. Safety is the
//!   exception, where any reply counts;
//! - **cost**: the unit's value is the sum of its costs, up to the policy's cap.
//!
//! Rewards of both sides must be awaited equally long: a side whose bad news travels faster looks
//! worse than it is. Where the policy sets a maturation, a unit's reward counts when the time since
//! its first reply has passed, as it stands then; until then the unit is pending, which is no
//! failure. The clock is that of the replies: evidence reads no other.
//!
//! Observations are immutable facts in order of arrival. Folding the same ones again, after a
//! restart, gives the same evidence.

mod behaviour;
mod summary;
mod unit;

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};
use understudy_manifest::MissingReward;
use understudy_statistics::{Block, BlockTally};

use crate::{Policy, RouterError, Side};
use unit::Unit;

pub use behaviour::Behaviour;
pub use summary::ArmSummary;

/// One fact about one unit. Send one when a reply is complete, and one for every reward that follows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    pub unit: String,
    /// The side the unit was assigned to, whoever answered it.
    pub arm: Side,
    /// When the reply was complete, in milliseconds of any clock; none for facts that came after it.
    #[serde(default)]
    pub at_ms: Option<i64>,
    /// From 0 to 1; none where no outcome is known (yet).
    #[serde(default)]
    pub reward: Option<f64>,
    #[serde(default)]
    pub error: bool,
    /// The reply took longer than the limit that was frozen before the release.
    #[serde(default)]
    pub latency_exceeded: bool,
    #[serde(default)]
    pub unsafe_output: bool,
    /// What the reply did, as far as a guard watches it.
    #[serde(default, skip_serializing_if = "Behaviour::is_clean")]
    pub behaviour: Behaviour,
    /// What the reply cost, in tokens or whatever the policy's cap is in.
    #[serde(default)]
    pub cost: f64,
}

impl Observation {
    /// That a unit of this side was served, and nothing else.
    pub fn served(unit: impl Into<String>, arm: Side) -> Self {
        Self {
            unit: unit.into(),
            arm,
            at_ms: None,
            reward: None,
            error: false,
            latency_exceeded: false,
            unsafe_output: false,
            behaviour: Behaviour::default(),
            cost: 0.0,
        }
    }
}

/// All that a verdict needs to know. Grows by [`observe`](Self::observe), never shrinks.
///
/// The default counts every reward when it comes and no cost.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    window: Window,
    index: HashMap<String, usize>,
    units: Vec<Unit>,
    /// Units whose rewards are still waited for, in order of their first reply.
    pending: VecDeque<usize>,
    canary: ArmEvidence,
    baseline: ArmEvidence,
    pairs: BlockTally,
    step: usize,
    clock: ReplyClock,
    silent_units: u64,
    /// Units per side that were there when a person last let the release go on.
    units_before: u64,
    is_resumed: bool,
}

/// The part of a policy that says what counts.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    maturation_ms: i64,
    missing: MissingReward,
    cost_cap: Option<f64>,
}

#[derive(Debug, Clone, Default)]
struct ArmEvidence {
    summary: ArmSummary,
    /// Successes that still wait for a unit of the other side to be paired with.
    unpaired: VecDeque<bool>,
    rewarded_before_step: u64,
}

/// Times of replies, in milliseconds; and, for the age alone, what time it is without any.
#[derive(Debug, Clone, Copy, Default)]
struct ReplyClock {
    began: Option<i64>,
    now: i64,
    first: Option<i64>,
    latest: i64,
    entered_step: Option<i64>,
}

impl Evidence {
    /// None yet, to be counted as a policy says.
    pub fn under(policy: &Policy) -> Self {
        let window = Window {
            maturation_ms: policy.maturation_ms.try_into().unwrap_or(i64::MAX),
            missing: policy.missing,
            cost_cap: policy.cost_cap,
        };
        Self { window, ..Self::default() }
    }

    /// Everything a list of observations says, with no step entered.
    pub fn of<'a>(
        observations: impl IntoIterator<Item = &'a Observation>,
    ) -> Result<Self, RouterError> {
        let mut evidence = Self::default();
        observations.into_iter().try_for_each(|one| evidence.observe(one))?;
        Ok(evidence)
    }

    /// Adds one fact. A reward outside 0 to 1 or a cost below 0 is refused and changes nothing.
    pub fn observe(&mut self, seen: &Observation) -> Result<(), RouterError> {
        let unit = || seen.unit.clone();
        if let Some(reward) = seen.reward.filter(|reward| !(0.0..=1.0).contains(reward)) {
            return Err(RouterError::Reward { unit: unit(), reward });
        }
        if !(seen.cost >= 0.0 && seen.cost.is_finite()) {
            return Err(RouterError::Cost { unit: unit(), cost: seen.cost });
        }
        if let Some(at) = seen.at_ms {
            self.clock.advance(at);
            self.settle_matured();
        }
        let nth = self.unit(seen);
        let unit = &mut self.units[nth];
        let side = unit.side;
        let arm = if side == Side::Canary { &mut self.canary } else { &mut self.baseline };
        unit.mark(seen, self.window.cost_cap, &mut arm.summary);
        let Some(reward) = seen.reward else { return Ok(()) };
        self.silent_units = 0;
        if self.window.maturation_ms == 0 {
            arm.unpaired.extend(unit.reward_now(reward, &mut arm.summary));
            self.pair();
        } else if !unit.settled {
            unit.remember(reward);
        }
        Ok(())
    }

    /// Says that the ramp is at another step: units rewarded from now on count towards it. Evidence
    /// of earlier steps stays in every test; only the count of outcomes at the step starts anew.
    pub fn enter_step(&mut self, step: usize) {
        self.step = step;
        self.clock.entered_step = self.clock.first.map(|_| self.clock.latest);
        for arm in [&mut self.canary, &mut self.baseline] {
            arm.rewarded_before_step = arm.summary.rewarded;
        }
    }

    /// Units of a side first rewarded at this step; none if the evidence is at another step.
    pub fn outcomes_at(&self, step: usize, side: Side) -> u64 {
        let arm = self.arm(side);
        if step == self.step { arm.summary.rewarded - arm.rewarded_before_step } else { 0 }
    }

    pub fn summary(&self, side: Side) -> &ArmSummary {
        &self.arm(side).summary
    }

    /// Units of both sides, a baseline and a canary one each, in order of their rewards.
    pub fn pairs(&self) -> &BlockTally {
        &self.pairs
    }

    pub fn step(&self) -> usize {
        self.step
    }

    /// The release began, or was let go on by a person: its patience with units, with silence and with
    /// time begins anew, and so does nothing else. Evidence is not undone by going on.
    pub fn go_on(&mut self, at_ms: i64) {
        self.clock.began = Some(at_ms);
        self.silent_units = self.pending.len() as u64;
        self.units_before = self.fewest_units();
        self.is_resumed = self.fewest_units() > 0;
    }

    /// A release begins. What an earlier one of the same candidate went through stays, and counts neither
    /// for its first step nor against its patience.
    pub fn begin(&mut self, at_ms: i64) {
        let is_first = self.units.is_empty();
        if !is_first {
            self.clock.advance(at_ms);
            self.settle_matured();
        }
        self.go_on(at_ms);
        self.is_resumed = false;
        if !is_first {
            self.enter_step(0);
        }
    }

    /// What time it is: a release ages without replies as well.
    pub fn tell_time(&mut self, now_ms: i64) {
        self.clock.now = self.clock.now.max(now_ms);
    }

    /// Units per side since the release began or was let go on.
    pub fn units_spent(&self) -> u64 {
        self.fewest_units() - self.units_before
    }

    /// Whether a person has let the release go on as its evidence stood.
    pub fn is_resumed(&self) -> bool {
        self.is_resumed
    }

    fn fewest_units(&self) -> u64 {
        self.canary.summary.units.min(self.baseline.summary.units)
    }

    /// New units since the last reward came in, those aside whose rewards are still waited for.
    pub fn silent_units(&self) -> u64 {
        self.silent_units.saturating_sub(self.pending.len() as u64)
    }

    /// Milliseconds between the beginning, or the first reply where that is not known, and the latest
    /// time that was heard of.
    pub fn age_ms(&self) -> u64 {
        let until = self.clock.now.max(self.clock.latest);
        let since = self.clock.began.or(self.clock.first);
        since.map_or(0, |since| until.saturating_sub(since).max(0) as u64)
    }

    /// Milliseconds between the first reply at this step and the latest.
    pub fn step_age_ms(&self) -> u64 {
        self.clock.since(self.clock.entered_step.or(self.clock.first))
    }

    fn unit(&mut self, seen: &Observation) -> usize {
        if let Some(nth) = self.index.get(&seen.unit) {
            return *nth;
        }
        let nth = self.units.len();
        self.index.insert(seen.unit.clone(), nth);
        self.units.push(Unit::new(seen.arm, self.clock.latest));
        self.silent_units += 1;
        self.arm_mut(seen.arm).summary.units += 1;
        if self.window.maturation_ms > 0 {
            self.pending.push_back(nth);
        }
        nth
    }

    fn settle_matured(&mut self) {
        while let Some(&nth) = self.pending.front() {
            let unit = &mut self.units[nth];
            if self.clock.latest.saturating_sub(unit.first_seen_ms) <= self.window.maturation_ms {
                break;
            }
            self.pending.pop_front();
            let side = unit.side;
            let arm = if side == Side::Canary { &mut self.canary } else { &mut self.baseline };
            arm.unpaired.extend(unit.settle(self.window.missing, &mut arm.summary));
        }
        self.pair();
    }

    fn pair(&mut self) {
        while let (Some(&baseline), Some(&canary)) =
            (self.baseline.unpaired.front(), self.canary.unpaired.front())
        {
            self.baseline.unpaired.pop_front();
            self.canary.unpaired.pop_front();
            self.pairs.push(Block::single(baseline), Block::single(canary));
        }
    }

    fn arm(&self, side: Side) -> &ArmEvidence {
        match side {
            Side::Canary => &self.canary,
            Side::Baseline => &self.baseline,
        }
    }

    fn arm_mut(&mut self, side: Side) -> &mut ArmEvidence {
        match side {
            Side::Canary => &mut self.canary,
            Side::Baseline => &mut self.baseline,
        }
    }
}

impl ReplyClock {
    /// Replies may be recorded out of order; time does not run backwards for it.
    fn advance(&mut self, at: i64) {
        self.latest = if self.first.is_none() { at } else { self.latest.max(at) };
        self.first = self.first.or(Some(at));
    }

    fn since(&self, start: Option<i64>) -> u64 {
        start.map_or(0, |start| self.latest.saturating_sub(start).max(0) as u64)
    }
}

#[cfg(test)]
mod tests;
