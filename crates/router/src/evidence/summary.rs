//! Sufficient statistics of one side.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use understudy_manifest::Guard;
use understudy_statistics::Moments;

/// Counts and sums of one side: counts are of units, never of requests.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ArmSummary {
    pub units: u64,
    /// Units with at least one reward that counts.
    pub rewarded: u64,
    pub reward_sum: f64,
    pub reward_sum_of_squares: f64,
    /// Units whose first reward was at least 0.5.
    pub successes: u64,
    pub errors: u64,
    pub latency_exceeded: u64,
    pub unsafe_outputs: u64,
    /// Of capped costs, in parts of the cap; 0 without one.
    pub cost_sum: f64,
    pub cost_sum_of_squares: f64,
    /// Units whose rewards are no longer waited for; 0 while nothing is waited for.
    pub matured: u64,
    /// Those of them without a reward.
    pub missing: u64,
    /// Units that were also seen on the other side, and count here, where they were seen first.
    pub crossed: u64,
    /// Units of which a reply did what such a guard watches.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub behaviour: BTreeMap<Guard, u64>,
    /// Units whose first reply already did.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub at_first: BTreeMap<Guard, u64>,
}

impl ArmSummary {
    /// Units that a guard can speak about.
    pub(crate) fn counted(&self, guard: Guard) -> u64 {
        if guard == Guard::Reward { self.rewarded } else { self.units }
    }

    /// Whether a unit's reward was neither 0 nor 1: for each of those `r − r²` is 0, and for any
    /// other above it. Sums are of floating point, so there is a tolerance.
    pub(crate) fn is_fractional(&self) -> bool {
        self.reward_sum - self.reward_sum_of_squares > 1e-6
    }

    /// Units with a bad mark; for a reward, those without success. Costs have no mark.
    pub(crate) fn marked(&self, guard: Guard) -> u64 {
        match guard {
            Guard::Reward => self.rewarded - self.successes,
            Guard::Errors => self.errors,
            Guard::Latency => self.latency_exceeded,
            Guard::Safety => self.unsafe_outputs,
            Guard::Cost => 0,
            behaviour => self.behaviour.get(&behaviour).copied().unwrap_or(0),
        }
    }

    /// Units that count against an absolute limit: those marked by their first reply, since of longer
    /// ones more are marked by any; and those ever marked as unsafe, which is not for the first reply
    /// alone to be.
    pub(crate) fn against_limit(&self, guard: Guard) -> u64 {
        if guard == Guard::Safety {
            return self.unsafe_outputs;
        }
        self.at_first.get(&guard).copied().unwrap_or(0)
    }

    /// Mean and variance of what a guard watches; a mark is 0 or 1, its own square.
    pub(crate) fn moments(&self, guard: Guard) -> Moments {
        let (sum, squares) = match guard {
            Guard::Reward => (self.reward_sum, self.reward_sum_of_squares),
            Guard::Cost => (self.cost_sum, self.cost_sum_of_squares),
            marked => (self.marked(marked) as f64, self.marked(marked) as f64),
        };
        Moments::smoothed(self.counted(guard), sum, squares)
    }

    /// Whether rewards come in: of the matured units, those without one.
    pub(crate) fn joined(&self) -> Moments {
        let missing = self.missing as f64;
        Moments::smoothed(self.matured, missing, missing)
    }
}
