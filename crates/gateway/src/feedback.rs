//! What users did about replies, one event or a list of them.
//!
//! | path | what |
//! | --- | --- |
//! | `POST /v1/feedback` | events, from applications |
//! | `POST /v1/outcomes` | the same in the words of a user interface |
//! | `POST /v1/feedback/signed` | from browsers: about the reply whose `x-feedback-token` they hold |
//! | `GET /v1/feedback?response_id=…` | what was said of a target, in these very words |
//! | `DELETE /v1/feedback/{id}` | takes an event back; it stays in the journal |
//! | `GET /v1/pending` | events whose target has not arrived |
//!
//! An event may precede its target. Of several names the most exact counts: step, response, span,
//! tool call, trace, trajectory, session. What our own server names is linked at once, and what only
//! telemetry knows once that has been read.

mod event;
mod limits;
mod store;
mod token;
mod words;

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{delete, get, options, post},
};
use serde::Deserialize;
use serde_json::{Value, json};
use understudy_ident::{TenantName, Timestamp, kind};
use understudy_trajectory::{Outcome, Target};

use self::{
    event::{Event, Said, outcome_id},
    store::store,
};
use crate::{auth::Caller, body::Body, error::ApiError, state::Gateway};

pub(crate) use token::TokenKey;

/// The most that is listed at once.
const PAGE: usize = 1000;

/// After this long without its target an event is called expired. It is kept, and linked all the
/// same should the target come.
const PENDING_DAYS: i64 = 30;

const TOKEN: &str = "x-feedback-token";

pub(crate) fn routes() -> Router<Gateway> {
    Router::new()
        .route("/v1/feedback", post(events).get(said))
        .route("/v1/feedback/signed", post(signed))
        .route("/v1/feedback/signed", options(preflight))
        .route("/v1/feedback/{id}", delete(take_back))
        .route("/v1/outcomes", post(outcomes))
        .route("/v1/pending", get(pending))
}

async fn events(
    State(gateway): State<Gateway>,
    caller: Caller,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, ApiError> {
    take(&gateway, &caller, &headers, &body, Event::parse).await
}

async fn outcomes(
    State(gateway): State<Gateway>,
    caller: Caller,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, ApiError> {
    take(&gateway, &caller, &headers, &body, words::read).await
}

async fn signed(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, ApiError> {
    let held = text(&headers, TOKEN).map(str::to_owned);
    let key = gateway.token_key()?;
    let now = gateway.clock.now();
    // One request is about replies of one tenant, which each of its tokens has to confirm.
    let tenant = tokens(held.as_deref(), &body).next().and_then(|token| TokenKey::tenant(&token));
    let caller = Caller::of_tenant(tenant.clone());
    let taken = take(&gateway, &caller, &headers, &body, |value| {
        let mut event = Event::parse(value)?;
        let token = event.token.take().or_else(|| held.clone());
        event.sign(|response| {
            let token = token.as_deref().ok_or("no token was sent")?;
            if TokenKey::tenant(token) != tenant {
                return Err("the tokens are of several tenants; send one event at a time");
            }
            key.check(token, response, now)
        })?;
        Ok(event)
    });
    let mut response = taken.await.map_err(IntoResponse::into_response).unwrap_or_else(|bad| bad);
    response
        .headers_mut()
        .insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    Ok(response)
}

/// The tokens of a request, those in its events first, as far as they can be read.
fn tokens(held: Option<&str>, body: &[u8]) -> impl Iterator<Item = String> {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let events = if let Value::Array(events) = body { events } else { vec![body] };
    let inner = events.into_iter().filter_map(|event| event["token"].as_str().map(str::to_owned));
    inner.collect::<Vec<_>>().into_iter().chain(held.map(str::to_owned))
}

/// What a browser asks before it sends JSON to another host. The token is the permission.
async fn preflight() -> impl IntoResponse {
    const ALLOWED: [(HeaderName, &str); 4] = [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "POST"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "content-type, idempotency-key, x-feedback-token"),
        (header::ACCESS_CONTROL_MAX_AGE, "86400"),
    ];
    (StatusCode::NO_CONTENT, ALLOWED)
}

async fn take(
    gateway: &Gateway,
    caller: &Caller,
    headers: &HeaderMap,
    body: &[u8],
    read: impl Fn(Value) -> Result<Event, String>,
) -> Result<Response, ApiError> {
    let body: Value = serde_json::from_slice(body)
        .map_err(|why| ApiError::bad_request(format!("the body is not JSON: {why}")))?;
    let (values, alone) = match body {
        Value::Array(values) => (values, false),
        one => (vec![one], true),
    };
    let key = text(headers, "idempotency-key");
    let now = gateway.clock.now();
    // All are read before any is stored, so that a typo in the third does not store the first two.
    let said = values
        .into_iter()
        .enumerate()
        .map(|(n, value)| {
            let mut event = read(value).map_err(|why| numbered(n, &why))?;
            if let (None, Some(key)) = (&event.id, key) {
                event.id = Some(if alone { key.to_owned() } else { format!("{key} {n}") });
            }
            let said = event.said(caller, now);
            said.map_err(|why| numbered(n, &why))
        })
        .collect::<Result<Vec<Said>, _>>()?;
    limits::check(gateway, caller, &said)?;
    let mut results = Vec::with_capacity(said.len());
    for one in said {
        let id = one.outcome.id.to_string();
        match store(gateway, caller, one).await {
            Ok(state) => results.push(json!({"id": id, "state": state})),
            // The others of a list are stored whatever becomes of this one.
            Err(why) if why.0.status == 409 && !alone => {
                results.push(json!({"id": id, "state": "rejected", "reason": why.0.message}));
            }
            Err(why) => return Err(why),
        }
    }
    Ok((StatusCode::ACCEPTED, Json(json!({"results": results}))).into_response())
}

/// The target of a question.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    #[serde(rename = "response_id")]
    response: Option<String>,
    #[serde(rename = "step_id")]
    step: Option<String>,
    #[serde(rename = "trajectory_id")]
    trajectory: Option<String>,
    #[serde(rename = "session_id")]
    session: Option<String>,
    /// Of the session, from 1.
    turn: Option<u32>,
}

async fn said(
    State(gateway): State<Gateway>,
    caller: Caller,
    Query(about): Query<About>,
) -> Result<Json<Value>, ApiError> {
    let session = match (about.session, about.turn) {
        (None, Some(_)) => return Err(ApiError::bad_request("`turn` needs `session_id`")),
        (Some(session), Some(turn)) => Some(Target::Turn { session, turn }),
        (session, None) => session.map(Target::Session),
    };
    let named = [
        about.response.map(Target::Response),
        about.step.map(|id| Target::Step(caller.id_text::<kind::Step>(&id))),
        about.trajectory.map(|id| Target::Trajectory(caller.id_text::<kind::Trajectory>(&id))),
        session,
    ];
    let named: Vec<Target> = named.into_iter().flatten().collect();
    let [target] = &named[..] else {
        let why = "name exactly one of response_id, step_id, trajectory_id, session_id";
        return Err(ApiError::bad_request(why));
    };
    let mut outcomes = gateway.journal.said_of(target).map_err(unavailable)?;
    outcomes.retain(|outcome| caller.owns_id(&outcome.id));
    Ok(Json(json!({"feedback": outcomes})))
}

async fn pending(State(gateway): State<Gateway>, caller: Caller) -> Result<Json<Value>, ApiError> {
    let tenant = caller.tenant().map(TenantName::as_str);
    let (waiting, listed) = gateway.journal.pending_of(tenant, PAGE).map_err(unavailable)?;
    let now = gateway.clock.now();
    let row = |outcome: Outcome| {
        let expired = is_expired(outcome.at, now);
        json!({"outcome": outcome, "expired": expired})
    };
    let listed: Vec<Value> = listed.into_iter().map(row).collect();
    Ok(Json(json!({"waiting": waiting, "pending": listed})))
}

fn is_expired(at: Timestamp, now: Timestamp) -> bool {
    now.as_second() - at.as_second() > PENDING_DAYS * 24 * 60 * 60
}

async fn take_back(
    State(gateway): State<Gateway>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let id = caller.id(&outcome_id(&id));
    let duplicate = store::retract(&gateway, &id).await?;
    let state = if duplicate { "duplicate" } else { "taken_back" };
    Ok(Json(json!({"id": id, "state": state})))
}

fn unavailable(why: understudy_journal::JournalError) -> ApiError {
    ApiError::unavailable(why.to_string())
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn numbered(n: usize, why: &str) -> ApiError {
    ApiError::bad_request(format!("event {n}: {why}; nothing of this request was stored"))
}
