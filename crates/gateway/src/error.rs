//! The one place where errors become HTTP responses.

use std::time::Duration;

use axum::{
    Json,
    extract::rejection::{PathRejection, QueryRejection},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::Value;
use understudy_inference::InferenceError;
use understudy_openai::{ErrorReply, RequestError};

/// OpenAI's clients repeat 409 and 5xx unless this says otherwise.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// What OpenAI's clients look for before `retry-after`.
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

/// What a client is told.
#[derive(Debug, Clone)]
pub(crate) struct ApiError(pub(crate) ErrorReply);

impl ApiError {
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self(ErrorReply::new(400, message))
    }

    pub(crate) fn bad_field(param: &str, message: impl Into<String>) -> Self {
        Self(ErrorReply::new(400, message).about(param))
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self(ErrorReply::new(404, message))
    }

    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self(ErrorReply::new(403, message))
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self(ErrorReply::new(409, message))
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self(ErrorReply::new(503, message))
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self(ErrorReply::new(500, message))
    }

    /// A fault of the prompt, under the name that the endpoint has for it.
    pub(crate) fn of_prompt(self, name: &str) -> Self {
        let Self(reply) = self;
        let of_prompt = matches!(reply.param.as_deref(), Some("messages" | "prompt"));
        Self(if of_prompt { reply.about(name) } else { reply })
    }

    /// Why nothing is generated. An adapter that cannot be read or held now is no fault of the
    /// request that asks for it, as it would be of one that loads it.
    pub(crate) fn of_generation(error: InferenceError) -> Self {
        let reason = match error {
            InferenceError::BadAdapter { .. } => "lora_adapter_invalid",
            InferenceError::RankTooHigh { .. } => "lora_rank_limit_exceeded",
            InferenceError::AdaptersFull { .. } => "lora_byte_limit_exceeded",
            other => return other.into(),
        };
        Self(ErrorReply::new(503, error.to_string()).about("model").because(reason))
    }

    pub(crate) fn to_json(&self) -> Value {
        self.0.to_json()
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl From<InferenceError> for ApiError {
    fn from(error: InferenceError) -> Self {
        Self(match error {
            // The names of those that are loaded may be another tenant's.
            InferenceError::UnknownAdapter { alias, .. } => {
                let loaded = "GET /v1/lora_adapters lists yours".to_owned();
                InferenceError::UnknownAdapter { alias, loaded }.into()
            }
            other => other.into(),
        })
    }
}

impl From<RequestError> for ApiError {
    fn from(error: RequestError) -> Self {
        Self(error.into())
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::bad_request(rejection.body_text())
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Self::bad_request(rejection.body_text())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::BAD_GATEWAY);
        let mut response = (status, Json(self.to_json())).into_response();
        let headers = response.headers_mut();
        if let Some(wait) = self.0.retry_after {
            come_back_after(headers, wait);
        }
        if let Some(retry) = self.0.should_retry {
            let word = if retry { "true" } else { "false" };
            headers.insert(SHOULD_RETRY, HeaderValue::from_static(word));
        }
        response
    }
}

/// Says when to come back: in seconds, as HTTP has it, and more exactly for those who can read it.
pub(crate) fn come_back_after(headers: &mut HeaderMap, wait: Duration) {
    headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds(wait)));
    let ms = wait.as_nanos().div_ceil(1_000_000).max(1) as u64;
    headers.insert(RETRY_AFTER_MS, HeaderValue::from(ms));
}

/// Rounded up, and never nothing: who comes back too early is refused again.
pub(crate) fn seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_to_come_back_is_rounded_up_to_seconds_and_told_in_milliseconds() {
        for (wait, after, exactly) in [(1_000, "1", "1000"), (1_250, "2", "1250"), (0, "1", "1")] {
            let mut headers = HeaderMap::new();
            come_back_after(&mut headers, Duration::from_millis(wait));
            let told = |name: &str| headers[name].to_str().unwrap();
            assert_eq!((told("retry-after"), told("retry-after-ms")), (after, exactly));
        }
    }

    #[test]
    fn an_adapter_that_cannot_be_had_now_is_to_be_asked_for_again() {
        let (alias, why) = ("a".to_owned(), "x".to_owned());
        for (error, reason) in [
            (
                InferenceError::BadAdapter { alias: alias.clone(), why: why.clone() },
                "lora_adapter_invalid",
            ),
            (InferenceError::AdaptersFull { alias, why }, "lora_byte_limit_exceeded"),
        ] {
            let ApiError(reply) = ApiError::of_generation(error);
            assert_eq!((reply.status, reply.param.as_deref()), (503, Some("model")));
            assert_eq!(
                (reply.reason, reply.retry_after),
                (Some(reason), Some(Duration::from_secs(1)))
            );
        }
        let ApiError(other) = ApiError::of_generation(InferenceError::Paused);
        assert_eq!(other.reason, Some("paused"));
    }
}
