//! What operators and machines ask about the server itself.

use axum::{Json, extract::State, http::StatusCode};
use serde_json::{Value, json};

use crate::{error::ApiError, state::Gateway};

/// `GET /health`: alive, and able to record what it does.
pub(crate) async fn health(State(gateway): State<Gateway>) -> Result<StatusCode, ApiError> {
    gateway.journal.watermark().map_err(|why| ApiError::unavailable(why.to_string()))?;
    Ok(StatusCode::OK)
}

/// `GET /api/v1/tasks`: every routed task with its route and open release.
pub(crate) async fn tasks(State(gateway): State<Gateway>) -> Json<Value> {
    let tasks: Vec<Value> = gateway
        .routes
        .snapshot()
        .iter()
        .map(|(task, entry)| json!({"task": task, "route": entry.route, "release": entry.release}))
        .collect();
    Json(json!({"tasks": tasks}))
}

/// `GET /api/v1/journal`: how much has been captured.
pub(crate) async fn journal(State(gateway): State<Gateway>) -> Result<Json<Value>, ApiError> {
    let failed = |why: String| ApiError::unavailable(why);
    let journal = gateway.journal.clone();
    let counts = tokio::task::spawn_blocking(move || journal.counts())
        .await
        .map_err(|why| failed(why.to_string()))?
        .map_err(|why| failed(why.to_string()))?;
    Ok(Json(json!(counts)))
}

/// `GET /api/v1/audit`: the audit chain, oldest first.
pub(crate) async fn audit(State(gateway): State<Gateway>) -> Result<Json<Value>, ApiError> {
    let failed = |why: String| ApiError::unavailable(why);
    let registry = std::sync::Arc::clone(&gateway.registry);
    let entries = tokio::task::spawn_blocking(move || registry.audit(None))
        .await
        .map_err(|why| failed(why.to_string()))?
        .map_err(|why| failed(why.to_string()))?;
    Ok(Json(json!({"entries": entries})))
}
