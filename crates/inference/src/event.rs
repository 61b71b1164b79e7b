//! What comes back from a model.

use serde::{Deserialize, Serialize};
use understudy_message::ToolCall;

use crate::{InferenceError, TokenRecord};

/// One step of a generation, in order: `Started`, any number of `Delta`, then `Finished`, or
/// `Failed` at any point. Nothing follows the last two.
#[derive(Debug, Clone)]
pub enum Event {
    Started(Served),
    Delta(Delta),
    Finished(Box<Completion>),
    Failed(InferenceError),
}

/// What became certain since the last one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Delta {
    /// Text that is final: never half a character, never part of a stop string. May be empty while
    /// text is held back.
    pub text: String,
    /// The tokens drawn since, where the backend knows them. Their text may come later.
    pub tokens: Vec<ScoredToken>,
}

impl From<&str> for Delta {
    fn from(text: &str) -> Self {
        Self { text: text.to_owned(), tokens: Vec::new() }
    }
}

/// A token and how likely it was.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoredToken {
    pub id: u32,
    /// What it adds to the text; not always whole characters.
    pub bytes: Vec<u8>,
    /// Natural logarithm of its probability.
    pub log_prob: f32,
    /// 1 for the likeliest; only where scores were asked for.
    pub rank: Option<u32>,
    /// The likeliest, best first, as many as were asked for; then those asked for by id that are not
    /// among them.
    pub top: Vec<TopToken>,
}

/// A token that could have come at a place.
#[derive(Debug, Clone, PartialEq)]
pub struct TopToken {
    pub id: u32,
    pub bytes: Vec<u8>,
    pub log_prob: f32,
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
    /// Calls a remote model made; our own engine's are read from the text.
    pub tool_calls: Vec<ToolCall>,
    pub finish_reason: FinishReason,
    pub stop_reason: Option<StopReason>,
    pub usage: Usage,
    pub timing: Timing,
    /// Present when the backend is our own engine; a remote teacher has none.
    pub tokens: Option<TokenRecord>,
    /// One per prompt token where they were asked for; nothing predicts the first.
    pub prompt_scores: Option<Vec<Option<ScoredToken>>>,
}

impl Completion {
    /// What a backend that deals in text only has to say.
    pub fn of_text(
        served: Served,
        text: String,
        finish_reason: FinishReason,
        usage: Usage,
        timing: Timing,
    ) -> Self {
        Self {
            served,
            text,
            tool_calls: Vec::new(),
            finish_reason,
            stop_reason: None,
            usage,
            timing,
            tokens: None,
            prompt_scores: None,
        }
    }
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

/// What exactly ended a completion, where it was not the model's own end of a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopReason {
    Text(String),
    Token(u32),
    /// Time ran out after some tokens were drawn.
    Deadline,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub prompt_tokens: u32,
    pub completion_tokens: u32,
    /// Of the prompt's tokens, how many were found cached.
    #[serde(default)]
    pub cached_tokens: u32,
}

/// Where the time of a request went, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    pub queued_ms: f64,
    pub first_token_ms: f64,
    pub total_ms: f64,
}
