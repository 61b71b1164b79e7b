//! Which step an outcome is about: a pure function, so that arrival order cannot matter.

use understudy_trajectory::{JudgedStep, Outcome, Step, Target};

/// Joins the steps of one trajectory (in the order of their time) with outcomes that name them.
/// Outcomes about other steps are left out.
pub(crate) fn join(steps: Vec<Step>, mut outcomes: Vec<Outcome>) -> Vec<JudgedStep> {
    outcomes.sort_by(|a, b| (a.at, &a.id).cmp(&(b.at, &b.id)));
    let mut judged: Vec<JudgedStep> =
        steps.into_iter().map(|step| JudgedStep { step, outcomes: Vec::new() }).collect();
    for outcome in outcomes {
        if let Some(at) = position(&judged, &outcome) {
            judged[at].outcomes.push(outcome);
        }
    }
    judged
}

/// An outcome about a whole trajectory or session is about its last step at that time; one that
/// came before every step is about the first.
fn position(judged: &[JudgedStep], outcome: &Outcome) -> Option<usize> {
    let named = |wanted: &dyn Fn(&Step) -> bool| judged.iter().position(|j| wanted(&j.step));
    let last_of = |wanted: &dyn Fn(&Step) -> bool| {
        let by_then = judged.iter().rposition(|j| wanted(&j.step) && j.step.at <= outcome.at);
        by_then.or_else(|| named(wanted))
    };
    match &outcome.target {
        Target::Response(id) => named(&|step| step.response_id == *id),
        Target::Step(id) => named(&|step| step.id.as_str() == id),
        Target::Trajectory(id) => last_of(&|step| step.trajectory.as_str() == id),
        Target::Session(id) => last_of(&|step| step.session.as_deref() == Some(id)),
    }
}
