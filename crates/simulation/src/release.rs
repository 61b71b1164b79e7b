//! One release from its first unit to its end.

use std::fmt::Write as _;

use understudy_router::{Canary, Evidence, Policy, Route, Side, Target, Verdict, verdict};

use crate::{SimulationError, World, traffic::Draws};

/// How a world is played through.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    pub replications: u32,
    /// The first of as many consecutive seeds.
    pub seed: u64,
    /// Units of the task per hour, compared or not.
    pub units_per_hour: f64,
    /// A verdict is asked for after so many compared units.
    pub units_per_look: u64,
    /// A release that still holds after so many arrivals is given up as held.
    pub max_arrivals: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            replications: 200,
            seed: 17,
            units_per_hour: 1_000.0,
            units_per_look: 40,
            max_arrivals: 2_000_000,
        }
    }
}

impl Settings {
    pub(crate) fn check(&self) -> Result<(), SimulationError> {
        let positive = |field, value: f64, expected| {
            let fine = value > 0.0 && value.is_finite();
            if fine { Ok(()) } else { Err(SimulationError::Setting { field, value, expected }) }
        };
        positive("replications", f64::from(self.replications), "at least one")?;
        positive("units per hour", self.units_per_hour, "a positive number")?;
        positive("units per look", self.units_per_look as f64, "at least one")
    }
}

/// How a release ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// A hold where the release was given up undecided.
    pub verdict: Verdict,
    /// Of the side with fewer.
    pub units_per_arm: u64,
    /// Units of the task until then, compared or not.
    pub arrivals: u64,
}

/// Plays one release through with the router's own assignment, evidence and verdict.
pub fn simulate(
    policy: &Policy,
    world: World,
    settings: &Settings,
    seed: u64,
) -> Result<Ending, SimulationError> {
    policy.validate()?;
    world.check()?;
    settings.check()?;
    let mut draws = Draws::new(world, policy, seed);
    let salt = draws.salt();
    let canary = Canary { target: Target::Base, share: policy.steps.share(0), salt };
    let mut route = Route { canary: Some(canary), ..Route::to(Target::Teacher) };
    let mut evidence = Evidence::under(policy);
    let (mut step, mut compared) = (0, 0);
    let ms_per_unit = 3_600_000.0 / settings.units_per_hour;
    let mut unit = String::new();
    for nth in 0..settings.max_arrivals {
        unit.clear();
        let _ = write!(unit, "session-{nth}");
        let Some(side) = route.assign(&unit).side() else { continue };
        let at_ms = (nth as f64 * ms_per_unit) as i64;
        for outcome in draws.arrived(at_ms) {
            evidence.observe(&outcome)?;
        }
        for seen in draws.unit(&unit, side, nth, at_ms) {
            evidence.observe(&seen)?;
        }
        compared += 1;
        if compared % settings.units_per_look != 0 {
            continue;
        }
        match verdict(policy, &evidence, step) {
            Verdict::Hold { .. } => {}
            Verdict::Advance { to_step } => {
                step = to_step;
                evidence.enter_step(step);
                route.canary =
                    Some(Canary { target: Target::Base, share: policy.steps.share(step), salt });
                route.validate()?;
            }
            end => return Ok(ending(end, &evidence, nth + 1)),
        }
    }
    let last = verdict(policy, &evidence, step);
    Ok(ending(last, &evidence, settings.max_arrivals))
}

fn ending(verdict: Verdict, evidence: &Evidence, arrivals: u64) -> Ending {
    let units = |side| evidence.summary(side).units;
    let units_per_arm = units(Side::Canary).min(units(Side::Baseline));
    Ending { verdict, units_per_arm, arrivals }
}
