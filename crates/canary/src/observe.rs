//! What happened to a unit, as evidence: a pure reading of steps and outcomes.

use understudy_router::{Observation, Side};
use understudy_trajectory::{Arm, Outcome, RewardPolicy, Signal, Step};

/// Which slice of `release`'s comparison a step belongs to; `None` for everything else.
pub(crate) fn side(step: &Step, release: &str) -> Option<Side> {
    let assignment = step.assignment.as_ref()?;
    if !assignment.analysed || assignment.release.as_deref() != Some(release) {
        return None;
    }
    match assignment.arm {
        Arm::Canary => Some(Side::Canary),
        Arm::Stable => Some(Side::Baseline),
        Arm::Teacher | Arm::Shadow | Arm::Base => None,
    }
}

/// The reply itself: did it fail, was it slow.
pub(crate) fn of_reply(step: &Step, side: Side, latency_slo_ms: f64) -> Observation {
    Observation {
        unit: unit(step),
        arm: side,
        reward: None,
        error: step.error.is_some(),
        latency_exceeded: step.timing.total_ms > latency_slo_ms,
        unsafe_output: false,
    }
}

/// What was said about it. Each outcome is one observation, so that reading the journal again
/// after a restart, in the same order, gives the same evidence.
pub(crate) fn of_outcome(
    step: &Step,
    outcome: &Outcome,
    side: Side,
    policy: RewardPolicy,
) -> Observation {
    let reward = policy.reward(&step.reply.text(), std::slice::from_ref(outcome));
    Observation {
        unit: unit(step),
        arm: side,
        reward: reward.map(|reward| reward.value),
        error: false,
        latency_exceeded: false,
        unsafe_output: matches!(outcome.signal, Signal::Flag { .. }),
    }
}

/// The unit of analysis is the unit of randomisation.
fn unit(step: &Step) -> String {
    step.assignment.as_ref().map(|assignment| assignment.unit.clone()).unwrap_or_default()
}
