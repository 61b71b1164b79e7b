//! What the units of both sides went through, folded into counts and sums.
//!
//! The unit of analysis is the unit of randomisation: a session with fifty requests is one unit, not
//! fifty, because its requests are alike. Several observations of one unit fold like this:
//!
//! - **reward**: the unit's value is the mean of its rewards so far;
//! - **success** (for the exact pair test): its *first* reward is at least 0.5. A later outcome may
//!   not change a bet that was already settled;
//! - **errors, latency, safety**: the unit is marked once anything marked it, and stays so. A mark
//!   can only come later than its unit, which makes the limit test cautious, never too eager.
//!
//! Rewards of both sides must be reported after the same delay: a side whose bad news travels faster
//! looks worse than it is. Observations are immutable facts in order of arrival. Folding the same ones again, after a
//! restart, gives the same evidence.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

pub use crate::sequential::PairedTally;
use understudy_manifest::Guard;

use crate::{RouterError, Side};

/// One fact about one unit. Send one when a reply is complete, and one for every reward that follows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    pub unit: String,
    pub arm: Side,
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
}

/// All that a verdict needs to know. Grows by [`observe`](Self::observe), never shrinks.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    canary: ArmEvidence,
    baseline: ArmEvidence,
    pairs: PairedTally,
    step: usize,
}

/// Sufficient statistics of one side: counts are of units, never of requests.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct ArmSummary {
    pub units: u64,
    /// Units with at least one reward.
    pub rewarded: u64,
    pub reward_sum: f64,
    pub reward_sum_of_squares: f64,
    /// Units whose first reward was at least 0.5.
    pub successes: u64,
    pub errors: u64,
    pub latency_exceeded: u64,
    pub unsafe_outputs: u64,
}

#[derive(Debug, Clone, Default)]
struct ArmEvidence {
    units: BTreeMap<String, UnitRecord>,
    summary: ArmSummary,
    /// Successes that still wait for a unit of the other side to be paired with.
    unpaired: VecDeque<bool>,
    rewarded_before_step: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct UnitRecord {
    rewards: u32,
    mean: f64,
    error: bool,
    latency_exceeded: bool,
    unsafe_output: bool,
}

impl Evidence {
    /// Everything a list of observations says, with no step entered.
    pub fn of<'a>(
        observations: impl IntoIterator<Item = &'a Observation>,
    ) -> Result<Self, RouterError> {
        let mut evidence = Self::default();
        observations.into_iter().try_for_each(|one| evidence.observe(one))?;
        Ok(evidence)
    }

    /// Adds one fact. A reward outside 0 to 1 is refused and changes nothing.
    pub fn observe(&mut self, observation: &Observation) -> Result<(), RouterError> {
        if let Some(reward) = observation.reward.filter(|reward| !(0.0..=1.0).contains(reward)) {
            return Err(RouterError::Reward { unit: observation.unit.clone(), reward });
        }
        match observation.arm {
            Side::Canary => self.canary.observe(observation),
            Side::Baseline => self.baseline.observe(observation),
        }
        while let (Some(&baseline), Some(&canary)) =
            (self.baseline.unpaired.front(), self.canary.unpaired.front())
        {
            self.baseline.unpaired.pop_front();
            self.canary.unpaired.pop_front();
            self.pairs.push(baseline, canary);
        }
        Ok(())
    }

    /// Says that the ramp is at another step: units rewarded from now on count towards it. Evidence
    /// of earlier steps stays in every test; only the count of outcomes at the step starts anew.
    pub fn enter_step(&mut self, step: usize) {
        self.step = step;
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

    pub fn pairs(&self) -> &PairedTally {
        &self.pairs
    }

    pub fn step(&self) -> usize {
        self.step
    }

    fn arm(&self, side: Side) -> &ArmEvidence {
        match side {
            Side::Canary => &self.canary,
            Side::Baseline => &self.baseline,
        }
    }
}

impl ArmSummary {
    /// Units that a guard can speak about.
    pub(crate) fn counted(&self, guard: Guard) -> u64 {
        if guard == Guard::Reward { self.rewarded } else { self.units }
    }

    /// Sum and sum of squares of what a guard watches; a mark is 0 or 1, its own square.
    pub(crate) fn sums(&self, guard: Guard) -> (f64, f64) {
        match guard {
            Guard::Reward => (self.reward_sum, self.reward_sum_of_squares),
            marked => (self.marked(marked) as f64, self.marked(marked) as f64),
        }
    }

    /// Units with a bad mark.
    pub(crate) fn marked(&self, guard: Guard) -> u64 {
        match guard {
            Guard::Reward => self.rewarded - self.successes,
            Guard::Errors => self.errors,
            Guard::Latency => self.latency_exceeded,
            Guard::Safety => self.unsafe_outputs,
        }
    }
}

impl ArmEvidence {
    fn observe(&mut self, observation: &Observation) {
        let summary = &mut self.summary;
        let unit = self.units.entry(observation.unit.clone()).or_insert_with(|| {
            summary.units += 1;
            UnitRecord::default()
        });
        let mark = |mark: &mut bool, now: bool, count: &mut u64| {
            *count += u64::from(now && !*mark);
            *mark |= now;
        };
        mark(&mut unit.error, observation.error, &mut summary.errors);
        let slow = observation.latency_exceeded;
        mark(&mut unit.latency_exceeded, slow, &mut summary.latency_exceeded);
        mark(&mut unit.unsafe_output, observation.unsafe_output, &mut summary.unsafe_outputs);

        let Some(reward) = observation.reward else { return };
        let before = unit.mean;
        unit.rewards += 1;
        unit.mean += (reward - before) / f64::from(unit.rewards);
        summary.reward_sum += unit.mean - before;
        summary.reward_sum_of_squares += unit.mean * unit.mean - before * before;
        if unit.rewards == 1 {
            let success = reward >= 0.5;
            summary.rewarded += 1;
            summary.successes += u64::from(success);
            self.unpaired.push_back(success);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewarded(unit: &str, arm: Side, reward: f64) -> Observation {
        Observation { reward: Some(reward), ..seen(unit, arm) }
    }

    fn seen(unit: &str, arm: Side) -> Observation {
        Observation {
            unit: unit.to_owned(),
            arm,
            reward: None,
            error: false,
            latency_exceeded: false,
            unsafe_output: false,
        }
    }

    #[test]
    fn fifty_requests_of_one_session_are_one_unit() {
        let mut facts: Vec<_> =
            (0..50).map(|i| rewarded("chatty", Side::Canary, f64::from(i % 2))).collect();
        facts.push(rewarded("brief", Side::Canary, 1.0));
        let summary = *Evidence::of(&facts).unwrap().summary(Side::Canary);
        assert_eq!((summary.units, summary.rewarded), (2, 2));
        assert!((summary.reward_sum - 1.5).abs() < 1e-12);
        assert!((summary.reward_sum_of_squares - 1.25).abs() < 1e-12);
        assert_eq!(summary.successes, 1, "the first reward of the chatty session was 0");
    }

    #[test]
    fn a_mark_counts_once_and_a_missing_reward_is_no_failure() {
        let bad = Observation { error: true, unsafe_output: true, ..seen("u1", Side::Baseline) };
        let slow = Observation { latency_exceeded: true, ..seen("u1", Side::Baseline) };
        let evidence = Evidence::of([&seen("u1", Side::Baseline), &bad, &bad, &slow]).unwrap();
        let summary = evidence.summary(Side::Baseline);
        assert_eq!((summary.units, summary.rewarded, summary.errors), (1, 0, 1));
        assert_eq!((summary.latency_exceeded, summary.unsafe_outputs), (1, 1));
        assert_eq!(evidence.summary(Side::Canary), &ArmSummary::default());
    }

    #[test]
    fn pairs_follow_the_order_of_arrival_on_each_side() {
        let evidence = Evidence::of(&[
            rewarded("c1", Side::Canary, 0.0),
            rewarded("c2", Side::Canary, 1.0),
            rewarded("b1", Side::Baseline, 1.0),
            rewarded("b1", Side::Baseline, 0.0),
        ])
        .unwrap();
        let pairs = evidence.pairs();
        assert_eq!((pairs.pairs, pairs.canary_successes, pairs.baseline_successes), (1, 0, 1));
    }

    #[test]
    fn sums_do_not_depend_on_the_order_across_units() {
        let mut facts: Vec<_> = (0..60_u32)
            .map(|i| rewarded(&format!("u{}", i % 23), Side::Canary, f64::from(i * 7 % 11) / 10.0))
            .collect();
        let forwards = *Evidence::of(&facts).unwrap().summary(Side::Canary);
        facts.reverse();
        let backwards = *Evidence::of(&facts).unwrap().summary(Side::Canary);
        assert!((forwards.reward_sum - backwards.reward_sum).abs() < 1e-9);
        let squares = forwards.reward_sum_of_squares - backwards.reward_sum_of_squares;
        assert!(squares.abs() < 1e-9);
    }

    #[test]
    fn outcomes_count_at_the_step_they_arrive_at_and_nowhere_else() {
        let mut evidence = Evidence::of(&[rewarded("c1", Side::Canary, 1.0)]).unwrap();
        assert_eq!(evidence.outcomes_at(0, Side::Canary), 1);
        assert_eq!(evidence.outcomes_at(1, Side::Canary), 0, "step 1 was not entered");
        evidence.enter_step(1);
        evidence.observe(&rewarded("c1", Side::Canary, 1.0)).unwrap();
        evidence.observe(&rewarded("c2", Side::Canary, 1.0)).unwrap();
        assert_eq!(evidence.outcomes_at(1, Side::Canary), 1);
        assert_eq!(evidence.summary(Side::Canary).rewarded, 2);
    }

    #[test]
    fn a_reward_off_the_scale_is_refused_and_changes_nothing() {
        let mut evidence = Evidence::default();
        for reward in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            let refused = evidence.observe(&rewarded("c1", Side::Canary, reward));
            assert!(matches!(refused, Err(RouterError::Reward { .. })));
        }
        assert_eq!(evidence.summary(Side::Canary), &ArmSummary::default());
    }
}
