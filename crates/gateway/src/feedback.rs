//! `POST /v1/feedback`: what users did about replies, one event or a list of them.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use understudy_ident::{OutcomeId, Timestamp};
use understudy_trajectory::{Outcome, Signal, Source, Target};

use crate::{body::Body, error::ApiError, state::Gateway};

/// An outcome as clients write it: exactly one target, one signal.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Event {
    /// For idempotency; the same id is stored once.
    id: Option<String>,
    response_id: Option<String>,
    step_id: Option<String>,
    trajectory_id: Option<String>,
    session_id: Option<String>,
    /// `accept`, `edit`, `regenerate`, `abandon`, `rating`, `verifier` or `flag`.
    signal: String,
    /// The edited text, for `edit`.
    text: Option<String>,
    /// For `rating` and `verifier`, between 0 and 1.
    value: Option<f64>,
    /// The reply that was kept, for `regenerate`.
    kept: Option<String>,
    /// The verifier's name.
    name: Option<String>,
    reason: Option<String>,
    source: Option<Source>,
    at: Option<Timestamp>,
    note: Option<String>,
}

pub(crate) async fn post(
    State(gateway): State<Gateway>,
    Body(body): Body,
) -> Result<Response, ApiError> {
    let body: Value = serde_json::from_slice(&body)
        .map_err(|why| ApiError::bad_request(format!("the body is not JSON: {why}")))?;
    let events = match body {
        Value::Array(events) => events,
        one => vec![one],
    };
    // All are read before any is stored, so that a typo in the third does not store the first two.
    let outcomes = events
        .into_iter()
        .enumerate()
        .map(|(n, event)| outcome(&gateway, event).map_err(|why| numbered(n, &why)))
        .collect::<Result<Vec<_>, _>>()?;
    let mut results = Vec::with_capacity(outcomes.len());
    for outcome in outcomes {
        results.push(store(&gateway, outcome).await?);
    }
    Ok((StatusCode::ACCEPTED, Json(json!({"results": results}))).into_response())
}

async fn store(gateway: &Gateway, outcome: Outcome) -> Result<Value, ApiError> {
    let id = outcome.id.to_string();
    let refused =
        |why: String| ApiError::unavailable(format!("outcome {id} was not stored: {why}"));
    let ack = gateway.journal.append_outcome(outcome).map_err(|why| refused(why.to_string()))?;
    let (committed, wait) = oneshot::channel();
    ack.on_commit(move |result| {
        // The waiting side goes away only with its connection, when nobody is left to tell.
        committed.send(result).ok();
    });
    let appended = match wait.await {
        Ok(Ok(appended)) => appended,
        Ok(Err(why)) if why.is_conflict() => return Err(ApiError::conflict(why.to_string())),
        Ok(Err(why)) => return Err(refused(why.to_string())),
        Err(_) => return Err(refused("the journal is closing".to_owned())),
    };
    Ok(json!({"id": id, "state": if appended.duplicate { "duplicate" } else { "stored" }}))
}

fn outcome(gateway: &Gateway, event: Value) -> Result<Outcome, String> {
    let event: Event = serde_json::from_value(event).map_err(|why| why.to_string())?;
    let id = match &event.id {
        None => OutcomeId::generate(),
        // A client's own id may look like anything; ours is derived from it, always the same one.
        Some(id) => id.parse().unwrap_or_else(|_| OutcomeId::derived(id)),
    };
    Ok(Outcome {
        id,
        target: target(&event)?,
        signal: signal(&event)?,
        source: event.source.unwrap_or(Source::Explicit),
        at: event.at.unwrap_or_else(|| gateway.clock.now()),
        note: event.note,
    })
}

fn target(event: &Event) -> Result<Target, String> {
    let named: Vec<Target> = [
        event.response_id.clone().map(Target::Response),
        event.step_id.clone().map(Target::Step),
        event.trajectory_id.clone().map(Target::Trajectory),
        event.session_id.clone().map(Target::Session),
    ]
    .into_iter()
    .flatten()
    .collect();
    match <[Target; 1]>::try_from(named) {
        Ok([target]) => Ok(target),
        Err(_) => Err("name exactly one of response_id, step_id, trajectory_id, session_id".into()),
    }
}

fn signal(event: &Event) -> Result<Signal, String> {
    let share = || match event.value {
        Some(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err(format!("`{}` needs a `value` between 0 and 1", event.signal)),
    };
    let text = |field: &str, value: &Option<String>| {
        value.clone().ok_or_else(|| format!("`{}` needs `{field}`", event.signal))
    };
    match event.signal.as_str() {
        "accept" => Ok(Signal::Accept),
        "edit" => Ok(Signal::Edit { text: text("text", &event.text)? }),
        "regenerate" => Ok(Signal::Regenerate { kept: event.kept.clone() }),
        "abandon" => Ok(Signal::Abandon),
        "rating" => Ok(Signal::Rating { value: share()? }),
        "verifier" => Ok(Signal::Verifier { name: text("name", &event.name)?, score: share()? }),
        "flag" => Ok(Signal::Flag { reason: text("reason", &event.reason)? }),
        other => Err(format!(
            "unknown signal `{other}`: use accept, edit, regenerate, abandon, rating, verifier or flag"
        )),
    }
}

fn numbered(n: usize, why: &str) -> ApiError {
    ApiError::bad_request(format!("event {n}: {why}; nothing of this request was stored"))
}
