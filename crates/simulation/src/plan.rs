//! How long until a verdict at this traffic?

use serde::Serialize;
use understudy_router::Policy;

use crate::{
    Behaviour, Characteristics, Delay, Quantiles, Settings, Share, SimulationError, World,
    replicate,
};

/// What is expected of a task's traffic.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Traffic {
    pub units_per_hour: f64,
    /// How the stable arm does; its `missing` share gets no reward.
    pub stable: Behaviour,
    /// The longest a person would wait for the first step.
    pub patience_hours: f64,
}

/// When a release would end, and how.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    pub units_per_hour: f64,
    pub steps: Vec<StepPlan>,
    /// If the canary is no different: how often it is promoted, and after how long.
    pub promoted: Share,
    pub promotion: Option<Delay>,
    /// If it is worse: how often that is found, and after how long.
    pub detections: Vec<Detection>,
    /// The smallest first step, in percent, whose outcomes come within the patience; none where
    /// even half of the traffic is too little, or the policy's own first step is large enough.
    pub start_percent: Option<u8>,
}

/// One step of the ramp.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct StepPlan {
    /// The canary's share of the traffic.
    pub share: f64,
    /// Until the outcomes and the time it needs are in, on average.
    pub hours: f64,
}

/// A canary that succeeds less often, by `fall`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Detection {
    pub fall: f64,
    pub rolled_back: Share,
    pub hours: Option<Quantiles>,
}

/// Plays identical arms and falls of one, two and four margins through at this traffic.
pub fn plan(
    policy: &Policy,
    traffic: &Traffic,
    settings: &Settings,
) -> Result<Plan, SimulationError> {
    let settings = Settings { units_per_hour: traffic.units_per_hour, ..*settings };
    settings.check()?;
    let (field, value) = ("patience", traffic.patience_hours);
    if value.is_nan() || value <= 0.0 {
        let expected = "a positive number of hours";
        return Err(SimulationError::Setting { field, value, expected });
    }
    let stable = traffic.stable;
    let alike = replicate(policy, World::alike(stable), &settings)?;
    let margin = policy.margin.at(stable.success);
    let falls = [1.0, 2.0, 4.0].map(|times| times * margin);
    let falls = falls.into_iter().filter(|fall| *fall <= stable.success);
    let detections = falls
        .map(|fall| {
            let canary = Behaviour { success: stable.success - fall, ..stable };
            let world = World { canary, ..World::alike(stable) };
            Ok(detection(fall, &replicate(policy, world, &settings)?))
        })
        .collect::<Result<_, SimulationError>>()?;
    Ok(Plan {
        units_per_hour: traffic.units_per_hour,
        steps: steps(policy, traffic),
        promoted: alike.promoted,
        promotion: alike.to_promotion,
        detections,
        start_percent: start_percent(policy, traffic),
    })
}

fn detection(fall: f64, found: &Characteristics) -> Detection {
    let hours = found.to_rollback.map(|delay| delay.hours);
    Detection { fall, rolled_back: found.rolled_back, hours }
}

fn steps(policy: &Policy, traffic: &Traffic) -> Vec<StepPlan> {
    (0..policy.steps.comparisons())
        .map(|step| {
            let share = policy.steps.share(step).get();
            let hours = hours_for_outcomes(policy, traffic, share)
                .max(policy.min_step_ms as f64 / 3_600_000.0);
            StepPlan { share, hours }
        })
        .collect()
}

fn start_percent(policy: &Policy, traffic: &Traffic) -> Option<u8> {
    let fits = |percent: u8| {
        hours_for_outcomes(policy, traffic, f64::from(percent) / 100.0) <= traffic.patience_hours
    };
    let own = (policy.steps.share(0).get() * 100.0).round() as u8;
    if fits(own) { None } else { (own..=50).find(|percent| fits(*percent)) }
}

/// `outcomes / (units per hour · share · share of units with a reward)`.
fn hours_for_outcomes(policy: &Policy, traffic: &Traffic, share: f64) -> f64 {
    let rewarded = traffic.units_per_hour * share * (1.0 - traffic.stable.missing);
    policy.min_outcomes_per_step as f64 / rewarded
}
