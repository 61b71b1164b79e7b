//! Answers in the words of each protocol.

use std::time::Duration;

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;
use understudy_ingest::telemetry::{Encoding, Item, TelemetryError, refusal};
use understudy_intake::{IntakeError, Received};
use understudy_journal::JournalError;
use understudy_openai::ErrorReply;

use crate::error::{ApiError, come_back_after};

const SOON: Duration = Duration::from_secs(1);
/// A full disk is not emptied in a second.
const DISK_FULL: Duration = Duration::from_secs(30);

/// Whose words to answer in.
#[derive(Debug, Clone, Copy)]
pub(super) enum Style {
    /// The answer of an export, and `google.rpc.Status`.
    Otlp(Encoding),
    /// LangSmith's 202.
    Accepted,
    /// The id of what was stored.
    Echo,
    /// 204.
    Empty,
}

/// Why a body was not taken.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) why: String,
    /// Where sending the same again can help.
    pub(super) retry_after: Option<Duration>,
}

impl Style {
    pub(super) fn answer(self, received: &Received) -> Response {
        let rejected = received.decoded.rejected.len();
        match self {
            Self::Otlp(encoding) => {
                let body = received.decoded.answer(&received.payload, encoding);
                ([(header::CONTENT_TYPE, encoding.content_type())], body).into_response()
            }
            Self::Accepted => {
                let body = json!({"message": "stored", "rejected": rejected});
                (StatusCode::ACCEPTED, Json(body)).into_response()
            }
            // A statement that says nothing is the sender's mistake, though the body is kept.
            Self::Echo if received.decoded.items.is_empty() => {
                let why = received.decoded.rejected.first().cloned();
                self.refuse(&Refusal::invalid(why.unwrap_or_else(|| "nothing is said".to_owned())))
            }
            Self::Echo => {
                let ids: Vec<&str> = received.decoded.items.iter().filter_map(id).collect();
                let body = json!({"id": ids.first(), "ids": ids, "rejected": rejected});
                Json(body).into_response()
            }
            Self::Empty => StatusCode::NO_CONTENT.into_response(),
        }
    }

    pub(super) fn refuse(self, refusal: &Refusal) -> Response {
        let Self::Otlp(encoding) = self else {
            let reply = ErrorReply::new(refusal.status, refusal.why.clone());
            let reply = ErrorReply { retry_after: refusal.retry_after, ..reply };
            return ApiError(reply).into_response();
        };
        let status =
            StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = self::refusal(refusal.code(), &refusal.why, encoding);
        let kind = [(header::CONTENT_TYPE, encoding.content_type())];
        let mut response = (status, kind, body).into_response();
        if let Some(wait) = refusal.retry_after {
            come_back_after(response.headers_mut(), wait);
        }
        response
    }
}

fn id(item: &Item) -> Option<&str> {
    match item {
        Item::Feedback(one) => Some(&one.id),
        Item::Span(_) | Item::Log(_) | Item::Served(_) => None,
    }
}

impl Refusal {
    pub(super) fn invalid(why: String) -> Self {
        Self { status: 400, why, retry_after: None }
    }

    pub(super) fn too_large(limit: usize) -> Self {
        TelemetryError::TooLarge { limit }.into()
    }

    pub(super) fn failed(why: String) -> Self {
        Self { status: 503, why, retry_after: Some(SOON) }
    }

    /// By `google.rpc.Code`.
    fn code(&self) -> u8 {
        match self.status {
            400 | 415 => 3,
            403 => 7,
            413 | 429 => 8,
            _ => 14,
        }
    }
}

impl Refusal {
    /// By `google.rpc.Code`, as the OTLP specification has it for gRPC: only `UNAVAILABLE` is worth
    /// another attempt.
    pub(super) fn grpc_code(&self) -> u8 {
        match self.status {
            400 | 415 => 3,
            403 => 7,
            413 => 8,
            _ => 14,
        }
    }
}

impl From<TelemetryError> for Refusal {
    fn from(error: TelemetryError) -> Self {
        let status = if matches!(error, TelemetryError::TooLarge { .. }) { 413 } else { 400 };
        Self { status, why: error.to_string(), retry_after: None }
    }
}

impl From<IntakeError> for Refusal {
    fn from(error: IntakeError) -> Self {
        let why = error.to_string();
        match error {
            IntakeError::Full { .. } => Self { status: 429, why, retry_after: Some(SOON) },
            IntakeError::ContentType { .. } => Self { status: 415, why, retry_after: None },
            IntakeError::NotKept => Self { status: 403, why, retry_after: None },
            IntakeError::Body(error) => error.into(),
            IntakeError::Journal(error) => error.into(),
        }
    }
}

impl From<JournalError> for Refusal {
    fn from(error: JournalError) -> Self {
        let why = error.to_string();
        match error {
            JournalError::Busy { retry_after_ms, .. } => {
                let retry_after = Some(Duration::from_millis(retry_after_ms));
                Self { status: 429, why, retry_after }
            }
            JournalError::TooLarge { .. } => Self { status: 413, why, retry_after: None },
            JournalError::Full => Self { status: 503, why, retry_after: Some(DISK_FULL) },
            _ => Self::failed(why),
        }
    }
}
