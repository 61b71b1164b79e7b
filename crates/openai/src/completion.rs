//! `POST /v1/completions`.

use serde_json::Value;
use understudy_inference::Prompt;

use crate::{
    ask::Ask,
    constraint::constraint,
    error::RequestError,
    fields::{self, Fields},
    refused,
};

/// OpenAI's default, which clients of this endpoint count on.
const DEFAULT_MAX_TOKENS: u32 = 16;

/// A completions request with every field checked.
#[derive(Debug, Clone, PartialEq)]
pub struct CompletionRequest {
    pub ask: Ask,
    pub prompts: Vec<Prompt>,
    /// The reply begins with the prompt.
    pub echo: bool,
    /// Only the prompt is wanted: the one token that every generation draws is not shown.
    pub prompt_only: bool,
}

impl CompletionRequest {
    pub fn parse(body: &[u8]) -> Result<Self, RequestError> {
        let fields = Fields::parse(body)?;
        refused::in_completions(&fields)?;
        let echo = fields.flag("echo")?;
        let limit = fields.count("max_tokens")?;
        let prompt_only = echo && limit == Some(0);
        let limit = limit.map(|count| if prompt_only { 1 } else { count });
        let top = fields.count("logprobs")?;
        if top.is_some_and(|top| top > 20) {
            return Err(fields.wrong("logprobs", "must be at most 20"));
        }
        let mut ask = Ask::read(&fields, limit, DEFAULT_MAX_TOKENS, top)?;
        if ask.model.is_none() {
            return Err(fields.missing("model"));
        }
        if echo && top.is_some() {
            if ask.stream.is_some() {
                return Err(fields.wrong("echo", "cannot be streamed together with `logprobs`"));
            }
            // The prompt's own scores are part of an echoed reply.
            ask.returns.prompt_top = ask.returns.prompt_top.max(ask.returns.top);
        }
        ask.check_named(&fields)?;
        ask.sampling.constraint = constraint(&fields)?;
        ask.sampling.validate()?;
        Ok(Self { prompts: prompts(&fields)?, ask, echo, prompt_only })
    }
}

/// One text, several, one list of ids, or several.
fn prompts(fields: &Fields) -> Result<Vec<Prompt>, RequestError> {
    let wrong = || {
        let why = "must be a text, a list of texts, a list of token ids or a list of such lists";
        fields.wrong("prompt", why)
    };
    let value = fields.get("prompt").ok_or_else(|| fields.missing("prompt"))?;
    let list = match value {
        Value::String(text) => return Ok(vec![Prompt::Text(text.clone())]),
        Value::Array(list) if !list.is_empty() => list,
        _ => return Err(wrong()),
    };
    if let Some(ids) = fields::ids(value) {
        return Ok(vec![Prompt::Tokens(ids)]);
    }
    let one = |value: &Value| match value {
        Value::String(text) => Some(Prompt::Text(text.clone())),
        other => fields::ids(other).filter(|ids| !ids.is_empty()).map(Prompt::Tokens),
    };
    list.iter().map(|value| one(value).ok_or_else(wrong)).collect()
}
