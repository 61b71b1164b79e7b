//! The JSON both sides of a chat exchange send.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use understudy_inference::{Chat, Constraint, FinishReason, Sampling, Usage};
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
    #[serde(skip_serializing_if = "is_none_asked")]
    presence_penalty: f32,
    #[serde(skip_serializing_if = "is_none_asked")]
    frequency_penalty: f32,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    logit_bias: &'a BTreeMap<u32, f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<Value>,
    #[serde(skip_serializing_if = "<[Value]>::is_empty")]
    tools: &'a [Value],
    /// `tool_choice` and its like, under their own names.
    #[serde(flatten)]
    named: &'a Map<String, Value>,
}

#[derive(Debug, Serialize)]
struct StreamOptions {
    include_usage: bool,
}

impl<'a> Request<'a> {
    /// `chat` and `sampling` ask for nothing that is not sent; `refuse` has seen to that.
    pub(super) fn new(
        model: &'a str,
        chat: &'a Chat,
        sampling: &'a Sampling,
        limit: TokenLimitField,
    ) -> Self {
        let of = |field| (field == limit).then_some(sampling.max_tokens);
        Self {
            model,
            messages: &chat.messages,
            stream: true,
            stream_options: StreamOptions { include_usage: true },
            temperature: sampling.temperature,
            top_p: sampling.top_p,
            top_k: sampling.top_k,
            seed: sampling.seed,
            max_tokens: of(TokenLimitField::MaxTokens),
            max_completion_tokens: of(TokenLimitField::MaxCompletionTokens),
            stop: &sampling.stop,
            presence_penalty: sampling.presence_penalty,
            frequency_penalty: sampling.frequency_penalty,
            logit_bias: &sampling.logit_bias,
            response_format: sampling.constraint.as_ref().and_then(response_format),
            tools: &chat.tools,
            named: &chat.template_variables,
        }
    }
}

fn response_format(constraint: &Constraint) -> Option<Value> {
    match constraint {
        Constraint::JsonObject => Some(json!({"type": "json_object"})),
        Constraint::JsonSchema(schema) => {
            let named = json!({"name": "reply", "schema": schema, "strict": true});
            Some(json!({"type": "json_schema", "json_schema": named}))
        }
        Constraint::Regex(_) | Constraint::Choice(_) | Constraint::Grammar(_) => None,
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_none_asked(value: &f32) -> bool {
    *value == 0.0
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
    #[serde(default)]
    pub(super) tool_calls: Option<Vec<CallDelta>>,
}

/// A part of a call; the first of each carries its id and name.
#[derive(Debug, Deserialize)]
pub(super) struct CallDelta {
    #[serde(default)]
    pub(super) index: usize,
    pub(super) id: Option<String>,
    #[serde(default)]
    pub(super) function: FunctionDelta,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct FunctionDelta {
    pub(super) name: Option<String>,
    pub(super) arguments: Option<String>,
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
