//! Errors as clients read them: OpenAI's envelope with vLLM's types and integer codes.

use std::time::Duration;

use serde_json::{Value, json};
use understudy_inference::InferenceError;

/// Characters of a message or a field's name: longer ones would let a bad request fill a log.
const LIMIT: usize = 1000;

/// When to come back, where nobody knows better.
const SOON: Duration = Duration::from_secs(1);

/// Why a body is not a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("the body is not JSON: {0}")]
    NotJson(String),
    #[error("the body must be a JSON object")]
    NotAnObject,
    #[error("`{field}` is required")]
    Missing { field: String },
    #[error("`{field}` {why}")]
    Wrong { field: String, why: String },
    /// We know what it means, and silence would be a wrong answer.
    #[error("`{field}` is not supported by this server; leave it out")]
    Refused { field: String },
}

impl RequestError {
    pub fn wrong(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Wrong { field: field.into(), why: why.into() }
    }

    /// The field at fault, if it is one.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::NotJson(_) | Self::NotAnObject => None,
            Self::Missing { field } | Self::Wrong { field, .. } | Self::Refused { field } => {
                Some(field)
            }
        }
    }
}

impl From<InferenceError> for RequestError {
    fn from(error: InferenceError) -> Self {
        match error {
            InferenceError::Invalid { field, why } => Self::wrong(field, why),
            other => Self::wrong("request", other.to_string()),
        }
    }
}

/// An error on its way to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorReply {
    pub status: u16,
    pub message: String,
    pub param: Option<String>,
    /// A stable word for programs, where the status says too little.
    pub reason: Option<&'static str>,
    /// Under which name the failed request is on record.
    pub request_id: Option<String>,
    /// `retry-after`, and `retry-after-ms`.
    pub retry_after: Option<Duration>,
    /// `x-should-retry`: clients retry 409 and 5xx unless told otherwise.
    pub should_retry: Option<bool>,
}

impl ErrorReply {
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        let message = bounded(message.into());
        let retry_after = matches!(status, 429 | 503).then_some(SOON);
        let should_retry = (status == 409).then_some(false);
        let (param, reason, request_id) = (None, None, None);
        Self { status, message, param, reason, request_id, retry_after, should_retry }
    }

    #[must_use]
    pub fn about(self, param: impl Into<String>) -> Self {
        Self { param: Some(bounded(param.into())), ..self }
    }

    #[must_use]
    pub fn because(self, reason: &'static str) -> Self {
        Self { reason: Some(reason), ..self }
    }

    #[must_use]
    pub fn of_request(self, id: impl Into<String>) -> Self {
        Self { request_id: Some(id.into()), ..self }
    }

    /// vLLM's name for the status.
    pub fn kind(&self) -> &'static str {
        match self.status {
            400 => "BadRequestError",
            401 => "AuthenticationError",
            403 => "PermissionDeniedError",
            404 => "NotFoundError",
            405 => "MethodNotAllowedError",
            409 => "Conflict",
            412 | 428 => "PreconditionFailedError",
            413 => "RequestTooLarge",
            422 => "UnprocessableEntityError",
            423 => "LockedError",
            429 => "RateLimitError",
            503 => "ServiceUnavailableError",
            408 | 504 => "TimeoutError",
            _ => "InternalServerError",
        }
    }

    pub fn to_json(&self) -> Value {
        let mut error = json!({
            "message": self.message,
            "type": self.kind(),
            "param": self.param,
            "code": self.status,
        });
        if let Some(reason) = self.reason {
            error["reason"] = json!(reason);
        }
        if let Some(id) = &self.request_id {
            error["request_id"] = json!(id);
        }
        json!({ "error": error })
    }
}

fn bounded(mut text: String) -> String {
    if let Some((cut, _)) = text.char_indices().nth(LIMIT) {
        text.truncate(cut);
        text.push('…');
    }
    text
}

impl From<RequestError> for ErrorReply {
    fn from(error: RequestError) -> Self {
        let reply = Self::new(400, error.to_string());
        match error.field() {
            Some(field) => reply.about(field),
            None => reply,
        }
    }
}

impl From<InferenceError> for ErrorReply {
    fn from(error: InferenceError) -> Self {
        let text = error.to_string();
        match error {
            InferenceError::Invalid { field, .. } => Self::new(400, text).about(field),
            InferenceError::ContextOverflow { .. } => {
                Self::new(400, text).about("messages").because("context_length_exceeded")
            }
            InferenceError::UnknownAdapter { .. } => {
                Self::new(404, text).about("model").because("lora_adapter_not_found")
            }
            InferenceError::BadAdapter { .. } => {
                Self::new(400, text).about("lora_path").because("lora_adapter_invalid")
            }
            InferenceError::Unsupported(_) => Self::new(400, text),
            InferenceError::AdapterChanged { .. } => Self::new(409, text)
                .about("expected_generation")
                .because("lora_generation_mismatch"),
            InferenceError::RankTooHigh { .. } => {
                Self::new(409, text).about("lora_path").because("lora_rank_limit_exceeded")
            }
            InferenceError::AdaptersFull { .. } => {
                Self::new(409, text).about("lora_name").because("lora_byte_limit_exceeded")
            }
            InferenceError::Busy(_) => Self::new(503, text).because("max_num_queued_reqs"),
            InferenceError::BusyTokens(_) => Self::new(503, text).because("max_num_queued_tokens"),
            InferenceError::Paused => Self::new(503, text).because("paused"),
            InferenceError::OverBudget(_) => {
                let reply = Self::new(429, text).because("budget_exhausted");
                Self { retry_after: None, should_retry: Some(false), ..reply }
            }
            InferenceError::NoTeacher => Self::new(503, text).because("no_teacher"),
            InferenceError::ShuttingDown => Self::new(503, text).because("shutting_down"),
            InferenceError::TimedOut(_) => Self::new(504, text).because("deadline_exceeded"),
            InferenceError::Failed(_) => Self::new(502, text),
        }
    }
}
