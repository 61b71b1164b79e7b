//! An event into the journal, durably, and what became of it.

use understudy_ident::OutcomeId;
use understudy_ingest::telemetry::{Compression, Feedback, Verdict};
use understudy_intake::{IntakeError, Request};
use understudy_journal::JournalError;

use super::event::Said;
use crate::{
    auth::Caller,
    error::ApiError,
    state::Gateway,
    telemetry::{TASK, durable},
};

/// `linked`, `pending` or `duplicate`.
pub(super) async fn store(
    gateway: &Gateway,
    caller: &Caller,
    said: Said,
) -> Result<&'static str, ApiError> {
    let supersedes = said.supersedes.clone();
    let state = if said.among.is_empty() {
        tell(gateway, said).await?
    } else {
        leave_to_telemetry(gateway, caller, said).await?
    };
    if let Some(before) = supersedes {
        retract(gateway, &before).await?;
    }
    Ok(state)
}

/// Whether it was taken back already.
pub(super) async fn retract(gateway: &Gateway, id: &OutcomeId) -> Result<bool, ApiError> {
    let failed = |why| refused(id, why);
    let ack = gateway.journal.retract(id).map_err(failed)?;
    Ok(durable(ack).await.map_err(failed)?.duplicate)
}

async fn tell(gateway: &Gateway, said: Said) -> Result<&'static str, ApiError> {
    let Some(outcome) = gateway.capture().outcome(said.outcome) else {
        return Err(ApiError::forbidden(IntakeError::NotKept.to_string()));
    };
    let failed = |why| refused(&outcome.id, why);
    let ack = gateway.journal.append_outcome(outcome.clone()).map_err(failed)?;
    if durable(ack).await.map_err(failed)?.duplicate {
        return Ok("duplicate");
    }
    let found = gateway.journal.judged(&outcome).map_err(failed)?;
    Ok(if found.is_some() { "linked" } else { "pending" })
}

/// A statement beside the telemetry that will tell what it is about.
async fn leave_to_telemetry(
    gateway: &Gateway,
    caller: &Caller,
    said: Said,
) -> Result<&'static str, ApiError> {
    let Said { outcome, among, .. } = said;
    let id = outcome.id.clone();
    let feedback = Feedback {
        id: id.to_string(),
        targets: among,
        name: String::new(),
        verdict: Verdict::Signal(outcome.signal),
        source: outcome.source,
        at_ns: u64::try_from(outcome.at.as_nanosecond()).unwrap_or(0),
        note: outcome.note,
        details: outcome.details,
    };
    let body = serde_json::to_vec(&feedback)
        .map_err(|why| ApiError::bad_request(format!("outcome {id} cannot be stored: {why}")))?;
    let task = caller.task(TASK).ok_or_else(|| ApiError::internal("telemetry has no task"))?;
    let request = Request {
        task,
        payload: "understudy-feedback",
        content_type: "application/json",
        compression: Compression::None,
        body: &body,
    };
    let received = gateway.intake().receive(request).map_err(|why| match why {
        IntakeError::Journal(why) => refused(&id, why),
        why @ IntakeError::NotKept => ApiError::forbidden(why.to_string()),
        other => ApiError::bad_request(format!("outcome {id} was not stored: {other}")),
    })?;
    let Some(ack) = received.ack else { return Ok("duplicate") };
    let appended = durable(ack).await.map_err(|why| refused(&id, why))?;
    Ok(if appended.duplicate { "duplicate" } else { "pending" })
}

fn refused(id: &OutcomeId, why: JournalError) -> ApiError {
    if why.is_conflict() {
        return ApiError::conflict(why.to_string());
    }
    ApiError::unavailable(format!("outcome {id} was not stored: {why}"))
}
