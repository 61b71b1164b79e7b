//! `GET /api/v1/live`: how a share of live replies scored, as the server's own thread last said.

use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::{Json, Router, extract::State, routing::get};
use understudy_live::Report;

use crate::{error::ApiError, state::Gateway};

/// The latest scores.
#[derive(Debug, Default)]
pub struct LiveBoard {
    report: Mutex<Option<Report>>,
}

impl LiveBoard {
    /// Takes the place of what was said before.
    pub fn post(&self, report: Report) {
        *self.lock() = Some(report);
    }

    pub(crate) fn latest(&self) -> Option<Report> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Report>> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn routes() -> Router<Gateway> {
    Router::new().route("/api/v1/live", get(scores))
}

async fn scores(State(gateway): State<Gateway>) -> Result<Json<Report>, ApiError> {
    let missing = || {
        ApiError::not_found(
            "no live traffic is scored here; name a share and scorers under [live] in \
             understudy.toml",
        )
    };
    gateway.live().latest().map(Json).ok_or_else(missing)
}
