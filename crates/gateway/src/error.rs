//! The one place where errors become HTTP: OpenAI's envelope, a bounded message, the right status.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use understudy_inference::InferenceError;

/// Longer messages would let one bad request fill a log.
const MESSAGE_LIMIT: usize = 2000;

/// What a client is told.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    status: StatusCode,
    kind: &'static str,
    param: Option<String>,
    message: String,
    retry_after_s: Option<u64>,
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        let mut message: String = message.into();
        if let Some((cut, _)) = message.char_indices().nth(MESSAGE_LIMIT) {
            message.truncate(cut);
        }
        Self { status, kind, param: None, message, retry_after_s: None }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    pub(crate) fn bad_field(param: &str, message: impl Into<String>) -> Self {
        Self { param: Some(param.to_owned()), ..Self::bad_request(message) }
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found_error", message)
    }

    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "permission_error", message)
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict_error", message)
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable_error", message);
        Self { retry_after_s: Some(1), ..error }
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", message)
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({"error": {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.status.as_u16(),
        }})
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<InferenceError> for ApiError {
    fn from(error: InferenceError) -> Self {
        let text = error.to_string();
        match error {
            InferenceError::Invalid { field, .. } => Self::bad_field(field, text),
            InferenceError::ContextOverflow { .. } => Self::bad_field("messages", text),
            InferenceError::UnknownAdapter { .. } => Self::not_found(text),
            InferenceError::BadAdapter { .. } => Self::bad_field("lora_path", text),
            InferenceError::Unsupported(_) => Self::bad_request(text),
            InferenceError::AdapterChanged { .. } => Self::conflict(text),
            InferenceError::AdaptersFull { .. }
            | InferenceError::Busy(_)
            | InferenceError::BusyTokens(_)
            | InferenceError::Paused
            | InferenceError::ShuttingDown => Self::unavailable(text),
            InferenceError::TimedOut(_) => {
                Self::new(StatusCode::GATEWAY_TIMEOUT, "timeout_error", text)
            }
            InferenceError::Failed(_) => Self::new(StatusCode::BAD_GATEWAY, "upstream_error", text),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.to_json())).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
