//! What observability clients send, into conversations.
//!
//! Three pure stages. *Decoding* takes the body of one request apart ([`decode`]): what cannot be
//! read is counted and the rest is kept. *Mapping* reads the dialects of the instrumentations;
//! [`MAPPER_VERSION`] names its rules, and raw bodies can be read again by newer ones. *Assembly*
//! ([`assemble`]) puts a bag of spans, log events and feedback together: the same bag gives the same
//! conversations, byte for byte, in whatever order and however often its parts were delivered.
//!
//! An item that names no trace is no part of anything and is refused; everything else is kept, with
//! or without its parents.

mod agents;
mod answer;
mod assemble;
mod body;
mod dialect;
mod feedback;
mod langsmith;
mod map;
mod messages;
mod multipart;
mod otlp;
mod payload;
mod record;
mod steps;
mod ties;

use serde_json::Value;

pub use answer::{refusal, status_details};
pub(crate) use assemble::step_id as span_step_id;
pub use assemble::{Assembled, Counts, assemble};
pub use body::{Compression, decompress};
pub use dialect::{Dialect, MAPPER_VERSION};
pub use feedback::{Feedback, FeedbackTarget, Verdict};
pub(crate) use map::tool_definition;
pub(crate) use messages::{arguments as argument_text, read_messages, result_text};
pub use payload::Payload;
pub use record::{Event, Item, LogRecord, Scope, SpanRecord};
pub use steps::{LeftOut, Steps, media, steps};
pub use ties::{accounts, responses, ties, ties_of_step, unit};

/// The two encodings of OTLP over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Protobuf,
    Json,
}

/// What a body held.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Decoded {
    pub items: Vec<Item>,
    /// One reason for each item that was left out: what `partial_success` counts.
    pub rejected: Vec<String>,
    /// Values that were changed in order to keep their item.
    pub repaired: usize,
}

impl Decoded {
    /// The body of the OTLP answer, which a client must not answer by sending again.
    pub fn partial_success(&self, payload: &Payload) -> Value {
        let rejected = match payload {
            Payload::OtlpLogs(_) => "rejectedLogRecords",
            _ => "rejectedSpans",
        };
        let Some(first) = self.rejected.first() else { return serde_json::json!({}) };
        let count = self.rejected.len().to_string();
        serde_json::json!({"partialSuccess": {rejected: count, "errorMessage": first}})
    }
}

/// Why a whole body could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TelemetryError {
    #[error("cannot decode the body as an OTLP protobuf message: {0}; is it another signal's?")]
    Protobuf(String),
    #[error("cannot decode the body as JSON: {0}")]
    Json(String),
    #[error("cannot read the body as {expected}: send {wanted}")]
    Shape { expected: &'static str, wanted: &'static str },
    #[error("cannot take the multipart body apart: {0}")]
    Multipart(&'static str),
    #[error("cannot decompress the body: {0}")]
    Compression(String),
    #[error("the body is over {limit} bytes after decompression: send smaller batches")]
    TooLarge { limit: usize },
}

/// Takes the body of one request apart. It is decompressed already.
pub fn decode(payload: &Payload, body: &[u8]) -> Result<Decoded, TelemetryError> {
    match payload {
        Payload::OtlpTraces(Encoding::Protobuf) => otlp::traces_from_protobuf(body),
        Payload::OtlpLogs(Encoding::Protobuf) => otlp::logs_from_protobuf(body),
        Payload::OtlpTraces(Encoding::Json) => otlp::traces_from_json(body),
        Payload::OtlpLogs(Encoding::Json) => otlp::logs_from_json(body),
        Payload::LangsmithMultipart { boundary } => langsmith::multipart(body, boundary),
        Payload::LangsmithRuns => langsmith::batch(body),
        Payload::LangsmithFeedback => feedback::langsmith(body),
        Payload::LangfuseScores => feedback::langfuse(body),
        Payload::OpenaiAgents => agents::export(body),
        Payload::UnderstudyFeedback => feedback::understudy(body),
        Payload::UnderstudyItems => items(body),
    }
}

/// Items as they were decoded once.
fn items(body: &[u8]) -> Result<Decoded, TelemetryError> {
    let items =
        serde_json::from_slice(body).map_err(|why| TelemetryError::Json(why.to_string()))?;
    Ok(Decoded { items, ..Decoded::default() })
}

#[cfg(test)]
mod tests;
