//! What operators ask: tasks and their routes, the journal, the audit chain.

use axum::{Json, extract::State};
use serde_json::{Value, json};

use crate::{auth::Caller, error::ApiError, state::Gateway};

/// `GET /api/v1/tasks`: every routed task of the caller's with its route and open release.
pub(crate) async fn tasks(State(gateway): State<Gateway>, caller: Caller) -> Json<Value> {
    let tasks: Vec<Value> = gateway
        .routes
        .snapshot()
        .iter()
        .filter(|(task, _)| caller.owns(task.as_str()))
        .map(|(task, entry)| json!({"task": caller.local(task.as_str()), "route": entry.route, "release": entry.release}))
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
