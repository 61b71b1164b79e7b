//! What happened to a unit, as evidence: a pure reading of steps and outcomes.

use understudy_inference::Timing;
use understudy_manifest::Guard;
use understudy_router::{Behaviour, Observation, Side};
use understudy_trajectory::{Arm, Course, Outcome, RewardPolicy, Signal, Step};

use crate::{LatencyLimits, Rules};

/// Which slice of `release`'s comparison a step belongs to; `None` for everything else.
pub(crate) fn side(step: &Step, release: &str) -> Option<Side> {
    let assignment = step.assignment.as_ref()?;
    let of = |trial: Option<&String>| trial.is_some_and(|trial| trial == release);
    // A memory's canary is drawn apart from an adapter's, and a step may be part of both.
    let recalled = assignment.course.memory.as_ref().filter(|met| of(met.trial.as_ref()));
    let (arm, analysed) = match recalled {
        Some(met) => (met.arm, met.analysed),
        None => (assignment.arm, assignment.analysed && of(assignment.release.as_ref())),
    };
    // What nobody was shown is nobody's experience.
    if assignment.course.beside.is_some() || !analysed {
        return None;
    }
    match arm {
        Arm::Canary => Some(Side::Canary),
        Arm::Stable => Some(Side::Baseline),
        Arm::Teacher | Arm::Shadow | Arm::Base => None,
    }
}

/// The reply itself: did it fail, was it slow, how many tokens did it take.
///
/// A reply that another gave counts as an error of the arm it was assigned to: however good it is,
/// it is not the arm's. One that the client did not wait for is no error: clients hang up for reasons
/// of their own, and where it was for slowness, the time that went by until then is counted.
pub(crate) fn of_reply(
    step: &Step,
    side: Side,
    (rules, slow): (&Rules, &LatencyLimits),
) -> Observation {
    let course = course(step);
    let fell_back = course.is_some_and(|course| course.fallback.is_some());
    let failed = step.error.is_some() && !course.is_some_and(|course| course.left);
    Observation {
        at_ms: Some(step.at.as_millisecond()),
        error: failed || fell_back,
        latency_exceeded: slow.is_slow(&step.timing),
        behaviour: behaviour(step, rules).with(Guard::FirstToken, slow.starts_late(&step.timing)),
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

/// How long a whole reply took that the stable arm gave by itself, with this content; none for any
/// other step.
pub(crate) fn own_timing(step: &Step, generation: Option<&str>) -> Option<Timing> {
    let assignment = step.assignment.as_ref()?;
    let Course { beside, fallback, escalation, .. } = &assignment.course;
    let is_own = assignment.arm == Arm::Stable
        && beside.is_none()
        && fallback.is_none()
        && escalation.is_none()
        && step.error.is_none();
    let served = step.served.adapter.as_ref().map(|adapter| adapter.generation.as_str());
    (is_own && served == generation).then_some(step.timing)
}

fn course(step: &Step) -> Option<&Course> {
    step.assignment.as_ref().map(|assignment| &assignment.course)
}

/// What the assigned arm's own reply did, whoever answered in the end.
fn behaviour(step: &Step, rules: &Rules) -> Behaviour {
    let Some(course) = course(step) else { return Behaviour::default() };
    let marks = course.marks;
    let tokens = step.usage.completion_tokens;
    let is_own = course.fallback.is_none() && course.escalation.as_deref() != Some("answered");
    let long = is_own && rules.long_reply_tokens.is_some_and(|limit| tokens > limit);
    Behaviour::default()
        .with(Guard::Tools, marks.invalid_tools || marks.invalid_format)
        .with(Guard::Questions, marks.question)
        .with(Guard::Refusals, marks.refusal)
        .with(Guard::Length, marks.cut_off || long)
        .with(Guard::Fallback, course.fallback.is_some())
        .with(Guard::Escalation, course.escalation.is_some())
}

/// The unit of analysis is the unit of randomisation.
fn unit(step: &Step) -> String {
    step.assignment.as_ref().map(|assignment| assignment.unit.clone()).unwrap_or_default()
}
