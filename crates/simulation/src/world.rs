//! What is true in a simulated world, though the decision rule cannot see it.

use serde::{Deserialize, Serialize};

use crate::SimulationError;

/// How one arm behaves, per request; `missing` and `lost` are per unit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Behaviour {
    /// Chance of a reward of 1; the others get 0.
    pub success: f64,
    /// Chance of an error. A request with an error fails.
    pub errors: f64,
    /// Latency as a multiple of what the stable arm had before the release.
    pub slowness: f64,
    /// Chance of an unsafe output.
    pub unsafe_outputs: f64,
    /// Chance that no reward ever comes.
    pub missing: f64,
    /// Milliseconds until a reward of 1, and until one of 0.
    pub good_news_ms: u64,
    pub bad_news_ms: u64,
    /// Median cost of a request, in parts of the policy's cap.
    pub cost: f64,
    /// Chance that a unit is served, but never recorded.
    pub lost: f64,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            success: 0.6,
            errors: 0.002,
            slowness: 1.0,
            unsafe_outputs: 0.000_5,
            missing: 0.0,
            good_news_ms: 0,
            bad_news_ms: 0,
            cost: 0.2,
            lost: 0.0,
        }
    }
}

/// Both arms, and what is true of the traffic as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct World {
    pub canary: Behaviour,
    pub stable: Behaviour,
    pub requests_per_unit: u32,
    /// Standard deviation, between units, of the log-odds of success: how alike the requests of one
    /// unit are.
    pub spread: f64,
    /// By how much the success of both arms falls, evenly, over the first `drift_arrivals`.
    pub drift: f64,
    pub drift_arrivals: u64,
    /// From this arrival on, no reward comes for either arm.
    pub silent_from: Option<u64>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            canary: Behaviour::default(),
            stable: Behaviour::default(),
            requests_per_unit: 1,
            spread: 0.0,
            drift: 0.0,
            drift_arrivals: 1,
            silent_from: None,
        }
    }
}

impl World {
    /// Both arms alike.
    pub fn alike(arm: Behaviour) -> Self {
        Self { canary: arm, stable: arm, ..Self::default() }
    }

    /// Refuses a world that cannot be, naming what is wrong with it.
    pub(crate) fn check(&self) -> Result<(), SimulationError> {
        self.canary.check()?;
        self.stable.check()?;
        within("drift", self.drift, 0.0, 1.0, SHARE)?;
        within("spread", self.spread, 0.0, f64::MAX, NOT_NEGATIVE)?;
        within("drift arrivals", self.drift_arrivals as f64, 1.0, f64::MAX, "at least one")
    }
}

impl Behaviour {
    fn check(&self) -> Result<(), SimulationError> {
        for (field, chance) in [
            ("success", self.success),
            ("errors", self.errors),
            ("unsafe outputs", self.unsafe_outputs),
            ("missing rewards", self.missing),
            ("lost units", self.lost),
        ] {
            within(field, chance, 0.0, 1.0, SHARE)?;
        }
        within("slowness", self.slowness, 0.0, f64::MAX, NOT_NEGATIVE)?;
        within("cost", self.cost, 0.0, f64::MAX, NOT_NEGATIVE)
    }
}

const SHARE: &str = "a number from 0 to 1";
const NOT_NEGATIVE: &str = "a number from 0 up";

fn within(
    field: &'static str,
    value: f64,
    least: f64,
    most: f64,
    expected: &'static str,
) -> Result<(), SimulationError> {
    let fine = value >= least && value <= most;
    if fine { Ok(()) } else { Err(SimulationError::Setting { field, value, expected }) }
}
