//! What schedulers, trainers and probes ask of a server: is it well, is it ready, stop, go on.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
};
use serde::Deserialize;
use serde_json::{Value, json};
use understudy_inference::{Attempt, InferenceError};

use crate::{adapters, auth::Caller, body::Body, error::ApiError, state::Gateway};

/// vLLM's parameters of `/pause`.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Pause {
    mode: Option<String>,
    clear_cache: Option<bool>,
}

/// `GET /health`: alive, able to generate, and able to record what it does.
pub(crate) async fn health(State(gateway): State<Gateway>) -> Result<StatusCode, ApiError> {
    gateway.journal.watermark().map_err(|why| ApiError::unavailable(why.to_string()))?;
    gateway.student.check().map_err(|why| ApiError::unavailable(why.to_string()))?;
    Ok(StatusCode::OK)
}

/// `GET /ready` and `/v1/health`: healthy and taking requests, and what is being loaded beside them.
pub(crate) async fn ready(State(gateway): State<Gateway>) -> Result<Json<Value>, ApiError> {
    if gateway.is_draining() {
        return Err(InferenceError::ShuttingDown.into());
    }
    health(State(gateway.clone())).await?;
    if gateway.student.is_paused() {
        return Err(ApiError::unavailable("generation is paused"));
    }
    let mut answer = json!({"status": "ok"});
    if let Some(loading) = loading(&gateway) {
        answer["loading"] = loading;
    }
    Ok(Json(answer))
}

/// The adapters that are being loaded. Beside them requests go on, so that a server is no less ready;
/// whose they are is not for those who need no key.
fn loading(gateway: &Gateway) -> Option<Value> {
    let attempts = gateway.student.attempts().into_iter();
    let names: Vec<String> = attempts
        .filter_map(|(alias, attempt)| (attempt == Attempt::Loading).then_some(alias))
        .collect();
    let mut loading = json!({ "adapters": names.len() });
    if gateway.door().is_open() {
        loading["names"] = json!(names);
    }
    (!names.is_empty()).then_some(loading)
}

pub(crate) async fn ping(_: Body) -> StatusCode {
    StatusCode::OK
}

pub(crate) async fn version() -> Json<Value> {
    Json(json!({"version": env!("CARGO_PKG_VERSION"), "server": "understudy"}))
}

/// `GET /load`: requests accepted and not finished.
pub(crate) async fn load(State(gateway): State<Gateway>) -> Json<Value> {
    let stats = gateway.student.stats();
    Json(json!({"server_load": stats.waiting + stats.running}))
}

/// `POST /pause`: between two steps. What is in flight waits, which is vLLM's mode `keep`.
pub(crate) async fn pause(
    State(gateway): State<Gateway>,
    pause: Result<Query<Pause>, QueryRejection>,
    _: Body,
) -> Result<Json<Value>, ApiError> {
    adapters::allowed(&gateway)?;
    let Query(pause) = pause?;
    if pause.mode.as_deref().is_some_and(|mode| mode != "keep") {
        let why = "`mode` can only be keep: what is in flight waits";
        return Err(ApiError::bad_field("mode", why));
    }
    if pause.clear_cache == Some(true) {
        let why = "`clear_cache` is not supported: cached keys and values are those of one \
                   generation and never go stale";
        return Err(ApiError::bad_field("clear_cache", why));
    }
    gateway.student.pause();
    Ok(Json(json!({"status": "paused"})))
}

pub(crate) async fn resume(
    State(gateway): State<Gateway>,
    _: Body,
) -> Result<Json<Value>, ApiError> {
    adapters::allowed(&gateway)?;
    gateway.student.resume();
    Ok(Json(json!({"status": "resumed"})))
}

pub(crate) async fn is_paused(State(gateway): State<Gateway>) -> Json<Value> {
    Json(json!({"is_paused": gateway.student.is_paused()}))
}

/// `GET /weight_info`: which weights answer under which name.
pub(crate) async fn weight_info(State(gateway): State<Gateway>, caller: Caller) -> Json<Value> {
    let versions: serde_json::Map<String, Value> = gateway
        .student
        .adapters()
        .into_iter()
        .filter(|adapter| caller.owns(&adapter.alias))
        .map(|adapter| (caller.local(&adapter.alias).to_owned(), json!(adapter.generation)))
        .collect();
    Json(json!({"base": gateway.student.base(), "weight_versions": versions}))
}
