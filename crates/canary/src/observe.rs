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

/// The reply itself: did it fail, was it slow, how many tokens did it take.
pub(crate) fn of_reply(step: &Step, side: Side, latency_slo_ms: f64) -> Observation {
    Observation {
        at_ms: Some(step.at.as_millisecond()),
        error: step.error.is_some(),
        latency_exceeded: step.timing.total_ms > latency_slo_ms,
        cost: f64::from(step.usage.completion_tokens),
        ..Observation::served(unit(step), side)
    }
}

/// What was said about it. Each outcome is one observation, so that reading the journal again
/// after a restart, in the same order, gives the same evidence. It carries no time: a client says
/// when an outcome was, and only the server's own clock may say whether it came in time.
pub(crate) fn of_outcome(
    step: &Step,
    outcome: &Outcome,
    side: Side,
    policy: RewardPolicy,
) -> Observation {
    let reward = policy.reward(&step.reply.text(), std::slice::from_ref(outcome));
    Observation {
        reward: reward.map(|reward| reward.value),
        unsafe_output: matches!(outcome.signal, Signal::Flag { .. }),
        ..Observation::served(unit(step), side)
    }
}

/// The unit of analysis is the unit of randomisation.
fn unit(step: &Step) -> String {
    step.assignment.as_ref().map(|assignment| assignment.unit.clone()).unwrap_or_default()
}
