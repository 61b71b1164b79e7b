//! The JSON both sides of a chat exchange send.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use understudy_inference::{FinishReason, Sampling, Usage};
use understudy_message::Message;

use super::TokenLimitField;

#[derive(Debug, Serialize)]
pub(super) struct Request<'a> {
    model: &'a str,
    messages: &'a [Message],
    stream: bool,
    stream_options: StreamOptions,
    temperature: f32,
    #[serde(skip_serializing_if = "is_one")]
    top_p: f32,
    /// Not OpenAI's, but vLLM's and others'; left out unless asked for.
    #[serde(skip_serializing_if = "is_zero")]
    top_k: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop: &'a [String],
}

#[derive(Debug, Serialize)]
struct StreamOptions {
    include_usage: bool,
}

impl<'a> Request<'a> {
    pub(super) fn new(
        model: &'a str,
        messages: &'a [Message],
        sampling: &'a Sampling,
        limit: TokenLimitField,
    ) -> Self {
        let of = |field| (field == limit).then_some(sampling.max_tokens);
        Self {
            model,
            messages,
            stream: true,
            stream_options: StreamOptions { include_usage: true },
            temperature: sampling.temperature,
            top_p: sampling.top_p,
            top_k: sampling.top_k,
            seed: sampling.seed,
            max_tokens: of(TokenLimitField::MaxTokens),
            max_completion_tokens: of(TokenLimitField::MaxCompletionTokens),
            stop: &sampling.stop,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_one(value: &f32) -> bool {
    *value == 1.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

/// One event of a streamed answer.
#[derive(Debug, Deserialize)]
pub(super) struct Chunk {
    #[serde(default)]
    pub(super) choices: Vec<Choice>,
    pub(super) usage: Option<TokenCounts>,
    pub(super) error: Option<Value>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Choice {
    #[serde(default)]
    pub(super) index: u32,
    #[serde(default)]
    pub(super) delta: Delta,
    pub(super) finish_reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Delta {
    pub(super) content: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct TokenCounts {
    #[serde(default)]
    prompt_tokens: u32,
    #[serde(default)]
    completion_tokens: u32,
}

impl From<TokenCounts> for Usage {
    fn from(counts: TokenCounts) -> Self {
        let TokenCounts { prompt_tokens, completion_tokens } = counts;
        Self { prompt_tokens, completion_tokens, cached_tokens: 0 }
    }
}

pub(super) fn finish_reason(word: &str) -> FinishReason {
    match word {
        "length" => FinishReason::Length,
        "tool_calls" | "function_call" => FinishReason::ToolCalls,
        // The provider broke it off: what there is must not pass for a whole answer.
        "content_filter" => FinishReason::Aborted,
        _ => FinishReason::Stop,
    }
}

/// What an error body says: OpenAI's `{"error": {"message": …}}`, its cousins, or the text itself.
pub(super) fn error_text(body: &str) -> String {
    let parsed: Option<Value> = serde_json::from_str(body).ok();
    let said = parsed.as_ref().map(|body| body.get("error").unwrap_or(body));
    let text = said.and_then(message_of).unwrap_or(body);
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect()
}

pub(super) fn message_of(error: &Value) -> Option<&str> {
    match error {
        Value::String(text) => Some(text),
        other => ["message", "detail"].iter().find_map(|key| other.get(key)?.as_str()),
    }
}
