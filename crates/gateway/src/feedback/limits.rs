//! How much may be said, so that nobody steers a release alone: by each key, and about what each of
//! an application's users did.

use std::collections::BTreeMap;

use understudy_openai::ErrorReply;
use understudy_trajectory::{Outcome, Source, Target};

use super::{event::Said, unavailable};
use crate::{auth::Caller, error::ApiError, state::Gateway};

/// Lets all of it be said, or nothing. This machine's user, who needs no key, is not limited.
pub(super) fn check(gateway: &Gateway, caller: &Caller, said: &[Said]) -> Result<(), ApiError> {
    if gateway.door().is_open() {
        return Ok(());
    }
    caller.tell(said.len()).map_err(|why| {
        let retry_after = why.retry_after();
        let reply = ErrorReply::new(429, why.to_string()).because("rate_limit_exceeded");
        ApiError(ErrorReply { retry_after, ..reply })
    })?;
    let mut subjects: BTreeMap<String, u32> = BTreeMap::new();
    // What programs say is limited by their key alone: they say something about every step.
    for one in said.iter().filter(|one| one.outcome.source != Source::Automated) {
        *subjects.entry(subject(gateway, &one.outcome)?).or_default() += 1;
    }
    for (subject, outcomes) in subjects {
        if let Err(wait) = gateway.door().subject(caller.tenant(), &subject, outcomes) {
            let why =
                "too much was said about what one user did; nothing of this request was stored";
            let reply = ErrorReply::new(429, why).because("subject_rate_limit_exceeded");
            return Err(ApiError(ErrorReply { retry_after: Some(wait), ..reply }));
        }
    }
    Ok(())
}

/// Whose reply it was, as exactly as is known: the user, the session, or what the event names.
fn subject(gateway: &Gateway, outcome: &Outcome) -> Result<String, ApiError> {
    let judged = gateway.journal.judged(outcome).map_err(unavailable)?;
    if let Some(step) = judged.map(|judged| judged.step) {
        let trajectory = || format!("trajectory {}", step.trajectory);
        let session = step.session.as_ref().map(|session| format!("session {session}"));
        let user = step.subject.as_ref().map(|user| format!("user {user}"));
        return Ok(user.or(session).unwrap_or_else(trajectory));
    }
    Ok(match &outcome.target {
        Target::Response(id) => format!("response {id}"),
        Target::Step(id) => format!("step {id}"),
        Target::Trajectory(id) => format!("trajectory {id}"),
        Target::Session(id) | Target::Turn { session: id, .. } => format!("session {id}"),
    })
}
