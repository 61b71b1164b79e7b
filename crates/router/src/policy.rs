//! What a release promises about itself before it starts: its ramp, its guards, its error rates.

mod choices;
mod steps;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use understudy_manifest::{Guard, MissingReward, SmallHarm};
use understudy_statistics::any_of;

use crate::RouterError;

pub use choices::{Control, Margin};
pub use steps::Steps;

/// The rules of one release, fixed while it runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    pub steps: Steps,
    /// Units with a reward, per side, before the ramp may leave a step.
    pub min_outcomes_per_step: u64,
    /// How long a step lasts at least, in milliseconds between replies.
    pub min_step_ms: u64,
    pub control: Control,
    /// Promotion needs proof that the mean reward fell by less than this.
    pub margin: Margin,
    /// Promotion needs proof that no guarded share of bad units rose by as much as this.
    pub flag_margin: f64,
    /// Promotion needs proof that the mean cost rose by less than this share of the baseline's.
    pub cost_margin: f64,
    /// A unit's cost counts up to here, so that no single unit decides; frozen before the release,
    /// say at the baseline's p99.9. Without one, costs are not compared.
    pub cost_cap: Option<f64>,
    /// Chance to ever roll back a harmless canary, over all guards but safety together.
    pub alpha_rollback: f64,
    /// Chance to ever promote a canary that is worse than a margin allows.
    pub alpha_promote: f64,
    /// Units of both sides together at which a decision is expected; the bounds are tightest there.
    pub n_star: f64,
    /// Guards that act. The others are computed and shown, and decide nothing.
    pub rollback_on: BTreeSet<Guard>,
    /// What to do about harm that is proven, but smaller than the margin. Safety knows no small harm.
    pub on_small_harm: SmallHarm,
    /// Highest tolerable share of canary units with an error.
    pub error_slo: f64,
    /// Highest tolerable share of canary units with a reply, or with a first token, slower than the
    /// frozen limit.
    pub latency_slo: f64,
    /// Highest tolerable share of canary units with an unsafe output.
    pub safety_slo: f64,
    /// Highest tolerable share of canary units with a call or a format that is wrong.
    pub tools_slo: f64,
    /// Highest tolerable share of canary units that another had to answer.
    pub fallback_slo: f64,
    /// Chance, for each limit, to ever trip it while the canary keeps it; and for safety to be found
    /// worse than the baseline's when it is not.
    pub alpha_slo: f64,
    /// Chance, for each test of the comparison itself, to ever call it broken when it is not.
    pub alpha_ratio: f64,
    /// How long, in milliseconds between replies, the rewards of a unit are waited for; at 0 each
    /// counts when it comes. The same for both sides, because bad news may travel faster.
    pub maturation_ms: u64,
    /// What a unit counts as whose reward did not come in that time.
    pub missing: MissingReward,
    /// New units of both sides without any reward coming in, after which the source of rewards
    /// counts as silent; units whose rewards are still waited for are not among them.
    pub max_silent_units: u64,
    /// Units per side after which an undecided comparison is called inconclusive; counted anew when a
    /// person lets it go on.
    pub max_units: u64,
    /// The same in milliseconds, with replies or without.
    pub max_age_ms: Option<u64>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            steps: Steps::default(),
            min_outcomes_per_step: 50,
            min_step_ms: 0,
            control: Control::Concurrent,
            margin: Margin::Absolute(0.05),
            flag_margin: 0.10,
            cost_margin: 0.05,
            cost_cap: None,
            alpha_rollback: 0.05,
            alpha_promote: 0.05,
            n_star: 1000.0,
            rollback_on: [Guard::Reward, Guard::Errors, Guard::Latency, Guard::Safety].into(),
            on_small_harm: SmallHarm::RollBack,
            error_slo: 0.02,
            latency_slo: 0.05,
            safety_slo: 0.005,
            tools_slo: 0.05,
            fallback_slo: 0.02,
            alpha_slo: 0.001,
            alpha_ratio: 0.01,
            maturation_ms: 0,
            missing: MissingReward::Exclude,
            max_silent_units: 5_000,
            max_units: 20_000,
            max_age_ms: None,
        }
    }
}

impl Policy {
    /// Refuses numbers under which the tests would mean nothing, naming the field.
    pub fn validate(&self) -> Result<(), RouterError> {
        let between = |field, value: f64, above: f64, below: f64, expected| {
            let inside = value > above && value < below;
            if inside { Ok(()) } else { Err(RouterError::Policy { field, value, expected }) }
        };
        let alpha = |field, value| between(field, value, 0.0, 0.5, "a number between 0 and 0.5");
        let share = |field, value| between(field, value, 0.0, 1.0, "a number between 0 and 1");
        let count = |field, value| between(field, value, 0.0, f64::INFINITY, "a positive number");
        alpha("alpha_rollback", self.alpha_rollback)?;
        alpha("alpha_promote", self.alpha_promote)?;
        alpha("alpha_slo", self.alpha_slo)?;
        alpha("alpha_ratio", self.alpha_ratio)?;
        share("margin", self.margin.size())?;
        share("flag_margin", self.flag_margin)?;
        share("cost_margin", self.cost_margin)?;
        share("error_slo", self.error_slo)?;
        share("latency_slo", self.latency_slo)?;
        share("safety_slo", self.safety_slo)?;
        share("tools_slo", self.tools_slo)?;
        share("fallback_slo", self.fallback_slo)?;
        count("n_star", self.n_star)?;
        count("cost_cap", self.cost_cap.unwrap_or(1.0))?;
        count("min_outcomes_per_step", self.min_outcomes_per_step as f64)?;
        count("max_silent_units", self.max_silent_units as f64)?;
        count("max_units", self.max_units as f64)?;
        count("max_age_ms", self.max_age_ms.unwrap_or(1) as f64)?;
        self.check_choices()
    }

    fn check_choices(&self) -> Result<(), RouterError> {
        if self.control == Control::Pooled {
            return Err(RouterError::PooledControl);
        }
        if self.rollback_on.contains(&Guard::Cost) && self.cost_cap.is_none() {
            return Err(RouterError::NoCostCap);
        }
        if self.missing == MissingReward::WorstCase && self.maturation_ms == 0 {
            return Err(RouterError::NothingMissing);
        }
        if self.rollback_on.is_empty() { Err(RouterError::NoGuards) } else { Ok(()) }
    }

    /// The level of one test of harm. The acting guards share `alpha_rollback` equally, and the two
    /// tests of the reward share what the reward got; safety stands outside with a level of its own.
    pub fn alpha_harm(&self, guard: Guard) -> f64 {
        let family = self.rollback_on.iter().filter(|acting| **acting != Guard::Safety).count();
        let one = any_of(self.alpha_rollback, family);
        match guard {
            Guard::Safety => self.alpha_slo,
            Guard::Reward => any_of(one, 2),
            _ => one,
        }
    }

    /// How much worse the canary may be and still be promoted.
    pub fn tolerance(&self, guard: Guard) -> Margin {
        match guard {
            Guard::Reward => self.margin,
            Guard::Cost => Margin::Relative { relative: self.cost_margin },
            _ => Margin::Absolute(self.flag_margin),
        }
    }

    /// The absolute limit on bad units. What has none is only ever compared.
    pub(crate) fn limit(&self, guard: Guard) -> Option<f64> {
        match guard {
            Guard::Errors => Some(self.error_slo),
            Guard::Latency | Guard::FirstToken => Some(self.latency_slo),
            Guard::Safety => Some(self.safety_slo),
            Guard::Tools => Some(self.tools_slo),
            Guard::Fallback => Some(self.fallback_slo),
            // How often it is right to ask back or to decline is not for us to say.
            Guard::Reward
            | Guard::Cost
            | Guard::Questions
            | Guard::Refusals
            | Guard::Length
            | Guard::Escalation => None,
        }
    }

    pub(crate) fn acts(&self, guard: Option<Guard>) -> bool {
        guard.is_some_and(|guard| self.rollback_on.contains(&guard))
    }

    /// Whether harm of this guard that stays within the margin is left to a person.
    pub(crate) fn holds_small_harm(&self, guard: Guard) -> bool {
        self.on_small_harm == SmallHarm::Hold && guard != Guard::Safety
    }
}

#[cfg(test)]
mod tests;
