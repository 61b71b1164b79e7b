//! What a release promises about itself before it starts: its ramp, its guards, its error rates.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use understudy_manifest::Guard;

use crate::{Exposure, RouterError};

/// The ramp: rising whole percentages of traffic. A final 100 means "promoted": nothing is compared
/// there any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct Steps(Vec<u8>);

impl Steps {
    pub fn new(percents: Vec<u8>) -> Result<Self, RouterError> {
        let problem = if !percents.iter().all(|percent| (1..=100).contains(percent)) {
            "each must be a whole percentage from 1 to 100"
        } else if !percents.is_sorted_by(|earlier, later| earlier < later) {
            "each must be larger than the one before"
        } else if percents.first().is_none_or(|first| *first == 100) {
            "one below 100 is needed, or nothing is ever compared"
        } else {
            return Ok(Self(percents));
        };
        Err(RouterError::Steps { steps: percents, problem })
    }

    /// The canary's share at a step counted from 0: half at most, because an equal baseline slice
    /// runs beside it. So 75 still means one half; and there is no share past the last step.
    pub fn share(&self, step: usize) -> Exposure {
        let percent = self.0.get(step).map_or(0, |percent| (*percent).min(50));
        Exposure::new(f64::from(percent) / 100.0).unwrap_or(Exposure::NONE)
    }

    /// The step, counted from 0, after which only a promotion is left.
    pub fn last_comparison(&self) -> usize {
        self.0.iter().filter(|percent| **percent < 100).count() - 1
    }
}

impl TryFrom<Vec<u8>> for Steps {
    type Error = RouterError;

    fn try_from(percents: Vec<u8>) -> Result<Self, RouterError> {
        Self::new(percents)
    }
}

impl From<Steps> for Vec<u8> {
    fn from(steps: Steps) -> Self {
        steps.0
    }
}

/// The rules of one release, fixed while it runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    pub steps: Steps,
    /// Units with a reward, per side, before the ramp may leave a step.
    pub min_outcomes_per_step: u64,
    /// Promotion needs proof that the mean reward fell by less than this.
    pub margin: f64,
    /// Promotion needs proof that no guarded share of bad units rose by as much as this.
    pub flag_margin: f64,
    /// Chance to ever roll back a harmless canary, over all guards together.
    pub alpha_rollback: f64,
    /// Chance to ever promote a canary that is worse than a margin allows.
    pub alpha_promote: f64,
    /// Units of both sides together at which a decision is expected; the bounds are tightest there.
    pub n_star: f64,
    /// Guards that act. The others are computed and shown, and decide nothing.
    pub rollback_on: BTreeSet<Guard>,
    /// Highest tolerable share of canary units with an error.
    pub error_slo: f64,
    /// Highest tolerable share of canary units with a reply slower than the frozen limit.
    pub latency_slo: f64,
    /// Highest tolerable share of canary units with an unsafe output.
    pub safety_slo: f64,
    /// Chance, for each limit, to ever trip it while the canary keeps it.
    pub alpha_slo: f64,
    /// Chance to ever call a fair split unfair.
    pub alpha_ratio: f64,
    /// Units per side after which an undecided comparison is called inconclusive.
    pub max_units: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            steps: Steps(vec![1, 5, 25, 50, 100]),
            min_outcomes_per_step: 50,
            margin: 0.05,
            flag_margin: 0.10,
            alpha_rollback: 0.05,
            alpha_promote: 0.05,
            n_star: 1000.0,
            rollback_on: Guard::ALL.into(),
            error_slo: 0.02,
            latency_slo: 0.05,
            safety_slo: 0.005,
            alpha_slo: 0.001,
            alpha_ratio: 0.01,
            max_units: 20_000,
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
        share("margin", self.margin)?;
        share("flag_margin", self.flag_margin)?;
        share("error_slo", self.error_slo)?;
        share("latency_slo", self.latency_slo)?;
        share("safety_slo", self.safety_slo)?;
        count("n_star", self.n_star)?;
        count("min_outcomes_per_step", self.min_outcomes_per_step as f64)?;
        count("max_units", self.max_units as f64)?;
        if self.rollback_on.is_empty() { Err(RouterError::NoGuards) } else { Ok(()) }
    }

    /// The level of one test of harm: the acting guards share `alpha_rollback` equally, and the two
    /// tests of the reward share what the reward got.
    pub(crate) fn alpha_harm(&self, guard: Guard) -> f64 {
        let tests = if guard == Guard::Reward { 2.0 } else { 1.0 };
        self.alpha_rollback / (self.rollback_on.len().max(1) as f64 * tests)
    }

    /// How much worse the canary may be and still be promoted.
    pub(crate) fn tolerance(&self, guard: Guard) -> f64 {
        if guard == Guard::Reward { self.margin } else { self.flag_margin }
    }

    /// The absolute limit on bad units. Rewards have none: they are only ever compared.
    pub(crate) fn limit(&self, guard: Guard) -> Option<f64> {
        match guard {
            Guard::Reward => None,
            Guard::Errors => Some(self.error_slo),
            Guard::Latency => Some(self.latency_slo),
            Guard::Safety => Some(self.safety_slo),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ramp_rises_and_compares_before_it_promotes() {
        let steps = Policy::default().steps;
        assert_eq!(Steps::new(vec![1, 5, 25, 50, 100]), Ok(steps.clone()));
        assert_eq!((steps.share(1).get(), steps.share(3).get()), (0.05, 0.5));
        assert_eq!(steps.last_comparison(), 3);
        let odd = Steps::new(vec![10, 75]).unwrap();
        assert_eq!((odd.share(1), odd.share(2)), (Exposure::HALF, Exposure::NONE));
        assert_eq!(odd.last_comparison(), 1);
        for wrong in [vec![], vec![100], vec![5, 5], vec![25, 5], vec![0, 5], vec![50, 101]] {
            assert!(Steps::new(wrong.clone()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_wrong_number_is_refused_by_its_name() {
        type Spoil = fn(&mut Policy);
        let spoilt: [(&str, Spoil); 5] = [
            ("alpha_rollback", |policy| policy.alpha_rollback = 0.5),
            ("margin", |policy| policy.margin = f64::NAN),
            ("safety_slo", |policy| policy.safety_slo = 0.0),
            ("n_star", |policy| policy.n_star = f64::INFINITY),
            ("min_outcomes_per_step", |policy| policy.min_outcomes_per_step = 0),
        ];
        assert_eq!(Policy::default().validate(), Ok(()));
        for (name, spoil) in spoilt {
            let mut policy = Policy::default();
            spoil(&mut policy);
            let refused = policy.validate();
            assert!(matches!(refused, Err(RouterError::Policy { field, .. }) if field == name));
        }
        let unguarded = Policy { rollback_on: BTreeSet::new(), ..Policy::default() };
        assert_eq!(unguarded.validate(), Err(RouterError::NoGuards));
    }
}
