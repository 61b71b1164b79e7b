//! What replies of one build are worth: the policy, and what behaviour was found to tell where the
//! policy asks for that.

use understudy_trajectory::{Calibration, Outcome, Overlap, Reward, RewardPolicy};

use crate::selection::Selected;

#[derive(Debug)]
pub(crate) struct Rewarding {
    policy: RewardPolicy,
    calibration: Option<Calibration>,
}

impl Rewarding {
    /// Fits to everything that was selected. What people said of a reply and what they did with it
    /// is held against each other; a policy that counts behaviour alone leaves programs out.
    pub(crate) fn of(policy: RewardPolicy, selected: &Selected) -> Self {
        let overlaps = selected.facts.iter().filter_map(|fact| fact.overlap.as_deref()).cloned();
        let overlaps: Vec<Overlap> = match policy {
            RewardPolicy::DefaultV1 => overlaps.collect(),
            RewardPolicy::CalibratedV1 => overlaps.filter_map(Overlap::behaviour).collect(),
        };
        Self { policy, calibration: Calibration::fit(overlaps) }
    }

    pub(crate) fn reward(&self, reply: &str, outcomes: &[Outcome]) -> Option<Reward> {
        self.policy.reward_by(self.calibration.as_ref(), reply, outcomes)
    }

    /// For the manifest, which the version's digest covers: who has it has the weights.
    pub(crate) fn calibration(&self) -> Option<serde_json::Value> {
        serde_json::to_value(self.calibration.as_ref()?).ok()
    }
}
