//! One unit: what is remembered of it, and how it moves the sums of its side.

use understudy_manifest::{Guard, MissingReward};

use super::Behaviour;
use crate::{ArmSummary, Observation, Side};

/// Everything remembered of one unit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unit {
    /// Where it was assigned, which is where all it goes through counts.
    pub(super) side: Side,
    pub(super) first_seen_ms: i64,
    pub(super) settled: bool,
    is_known: bool,
    rewards: u32,
    mean: f64,
    first_reward: f64,
    cost: f64,
    error: bool,
    latency_exceeded: bool,
    unsafe_output: bool,
    behaviour: Behaviour,
    crossed: bool,
}

impl Unit {
    pub(super) fn new(side: Side, first_seen_ms: i64) -> Self {
        Self {
            side,
            first_seen_ms,
            settled: false,
            is_known: false,
            rewards: 0,
            mean: 0.0,
            first_reward: 0.0,
            cost: 0.0,
            error: false,
            latency_exceeded: false,
            unsafe_output: false,
            behaviour: Behaviour::default(),
            crossed: false,
        }
    }

    /// Everything about an observation but its reward.
    pub(super) fn mark(&mut self, seen: &Observation, cap: Option<f64>, summary: &mut ArmSummary) {
        let mark = |mark: &mut bool, now: bool, count: &mut u64| {
            *count += u64::from(now && !*mark);
            *mark |= now;
        };
        if !self.is_known {
            self.is_known = true;
            for guard in marks(seen) {
                *summary.at_first.entry(guard).or_default() += 1;
            }
        }
        mark(&mut self.error, seen.error, &mut summary.errors);
        mark(&mut self.latency_exceeded, seen.latency_exceeded, &mut summary.latency_exceeded);
        mark(&mut self.unsafe_output, seen.unsafe_output, &mut summary.unsafe_outputs);
        mark(&mut self.crossed, seen.arm != self.side, &mut summary.crossed);
        for guard in seen.behaviour.new_since(self.behaviour).guards() {
            *summary.behaviour.entry(guard).or_default() += 1;
        }
        self.behaviour = self.behaviour.and(seen.behaviour);
        if let Some(cap) = cap {
            let before = self.cost.min(cap) / cap;
            self.cost += seen.cost;
            let now = self.cost.min(cap) / cap;
            summary.cost_sum += now - before;
            summary.cost_sum_of_squares += now * now - before * before;
        }
    }

    /// Takes a reward that counts at once. The unit's first one tells whether it succeeded.
    pub(super) fn reward_now(&mut self, reward: f64, summary: &mut ArmSummary) -> Option<bool> {
        let before = self.mean;
        self.remember(reward);
        summary.reward_sum += self.mean - before;
        summary.reward_sum_of_squares += self.mean * self.mean - before * before;
        (self.rewards == 1).then(|| self.succeed(summary))
    }

    /// Keeps a reward for when the unit has matured.
    pub(super) fn remember(&mut self, reward: f64) {
        if self.rewards == 0 {
            self.first_reward = reward;
        }
        self.rewards += 1;
        self.mean += (reward - self.mean) / f64::from(self.rewards);
    }

    /// The wait is over: what is known now counts, and nothing later does.
    pub(super) fn settle(
        &mut self,
        missing: MissingReward,
        summary: &mut ArmSummary,
    ) -> Option<bool> {
        self.settled = true;
        summary.matured += 1;
        if self.rewards == 0 {
            summary.missing += 1;
            if missing == MissingReward::Exclude {
                return None;
            }
        }
        summary.reward_sum += self.mean;
        summary.reward_sum_of_squares += self.mean * self.mean;
        Some(self.succeed(summary))
    }

    fn succeed(&self, summary: &mut ArmSummary) -> bool {
        let success = self.first_reward >= 0.5;
        summary.rewarded += 1;
        summary.successes += u64::from(success);
        success
    }
}

/// What a reply is marked for.
fn marks(seen: &Observation) -> impl Iterator<Item = Guard> {
    let error = seen.error.then_some(Guard::Errors);
    let slow = seen.latency_exceeded.then_some(Guard::Latency);
    error.into_iter().chain(slow).chain(seen.behaviour.guards())
}
