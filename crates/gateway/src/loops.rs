//! `GET /api/v1/loop`: what each loop of this server waits for, does, and did last.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use axum::{
    Json, Router,
    extract::{Path, State},
    routing::get,
};
use serde_json::{Value, json};

use crate::{error::ApiError, state::Gateway};

/// The latest word of every loop, by its task.
#[derive(Debug, Default)]
pub struct Board {
    entries: Mutex<BTreeMap<String, Value>>,
}

impl Board {
    /// Takes the place of what this task's loop said before.
    pub fn post(&self, task: &str, status: Value) {
        self.lock().insert(task.to_owned(), status);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Value>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn routes() -> Router<Gateway> {
    Router::new().route("/api/v1/loop", get(all)).route("/api/v1/loop/{task}", get(one))
}

async fn all(State(gateway): State<Gateway>) -> Json<Value> {
    let loops: Vec<Value> = gateway.board().lock().values().cloned().collect();
    Json(json!({"loops": loops}))
}

async fn one(
    State(gateway): State<Gateway>,
    Path(task): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let status = gateway.board().lock().get(&task).cloned();
    let missing = || {
        ApiError::not_found(format!(
            "no loop runs for `{task}` here; `understudy serve --loop RECIPE` starts one"
        ))
    };
    status.map(Json).ok_or_else(missing)
}
