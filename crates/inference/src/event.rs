//! What comes back from a model.

use serde::{Deserialize, Serialize};

use crate::{InferenceError, TokenRecord};

/// One step of a generation, in order: `Started`, any number of `Delta`, then `Finished`, or
/// `Failed` at any point. Nothing follows the last two.
#[derive(Debug, Clone)]
pub enum Event {
    Started(Served),
    /// Text that is final: never half a character, never part of a stop string.
    Delta(String),
    Finished(Box<Completion>),
    Failed(InferenceError),
}

/// Which weights answer, resolved once at admission and kept to the last token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    pub base: String,
    pub adapter: Option<ServedAdapter>,
}

/// The alias a request named and the content it resolved to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedAdapter {
    pub alias: String,
    /// Digest of the adapter's config and weights.
    pub generation: String,
}

/// A whole generation.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    pub served: Served,
    pub text: String,
    pub finish_reason: FinishReason,
    pub usage: Usage,
    pub timing: Timing,
    /// Present when the backend is our own engine; a remote teacher has none.
    pub tokens: Option<TokenRecord>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    Stop,
    Length,
    ToolCalls,
    Aborted,
}

impl FinishReason {
    /// The OpenAI spelling, which has no word for an aborted generation.
    pub fn as_openai(self) -> &'static str {
        match self {
            Self::Stop | Self::Aborted => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub prompt_tokens: u32,
    pub completion_tokens: u32,
}

/// Where the time of a request went, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    pub queued_ms: f64,
    pub first_token_ms: f64,
    pub total_ms: f64,
}
