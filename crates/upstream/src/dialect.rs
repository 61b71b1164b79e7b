//! What an endpoint understands, and the refusal of what it does not.

use serde::{Deserialize, Serialize};
use understudy_inference::{
    Admission, Chat, Constraint, GenerateRequest, InferenceError, Prompt, Returns, Sampling,
};

/// Whose fields an endpoint knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// OpenAI's: messages in, text and calls out.
    #[default]
    #[serde(rename = "openai")]
    OpenAi,
    /// vLLM's and our own: adapters, token ids, scores, constraints and priorities as well.
    Vllm,
}

/// What the endpoint calls the limit on completion tokens: newer OpenAI models refuse the name
/// that every other server knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenLimitField {
    #[default]
    MaxTokens,
    MaxCompletionTokens,
}

impl TokenLimitField {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::MaxTokens => "max_tokens",
            Self::MaxCompletionTokens => "max_completion_tokens",
        }
    }
}

/// Variables of a template that OpenAI has fields for.
const FORWARDED: [&str; 3] = ["tool_choice", "parallel_tool_calls", "reasoning_effort"];

impl Dialect {
    /// Refuses what would silently mean something else there.
    pub(crate) fn check(self, request: &GenerateRequest) -> Result<(), InferenceError> {
        request.sampling.validate()?;
        if let Prompt::Chat(chat) = &request.prompt
            && chat.messages.is_empty()
        {
            return Err(InferenceError::invalid("messages", "must hold at least one message"));
        }
        match self {
            Self::OpenAi => openai(request),
            Self::Vllm => vllm(request),
        }
    }
}

fn openai(request: &GenerateRequest) -> Result<(), InferenceError> {
    let unsupported = |what| Err(InferenceError::Unsupported(what));
    if request.adapter.is_some() {
        let why = "must be absent: this endpoint has no adapters of ours";
        return Err(InferenceError::invalid("adapter", why));
    }
    if request.returns != Returns::default() {
        return unsupported("log-probabilities at a teacher");
    }
    // It counts its own tokens and keeps its own cache; the rest is up to our queue.
    let Admission { must_fit, timeout, payer, .. } = request.admission.clone();
    if request.admission != (Admission { must_fit, timeout, payer, ..Admission::default() }) {
        return unsupported("priorities or salts at a teacher");
    }
    let Prompt::Chat(chat) = &request.prompt else {
        let why = "must be messages: raw text and token ids mean nothing to a teacher";
        return Err(InferenceError::invalid("prompt", why));
    };
    let plain = Chat {
        tools: chat.tools.clone(),
        template_variables: chat.template_variables.clone(),
        ..Chat::new(chat.messages.clone())
    };
    if **chat != plain {
        return unsupported("other templates or open messages at a teacher");
    }
    if chat.template_variables.keys().any(|name| !FORWARDED.contains(&name.as_str())) {
        return unsupported("template variables at a teacher");
    }
    let asked = &request.sampling;
    let sent = Sampling {
        temperature: asked.temperature,
        top_p: asked.top_p,
        top_k: asked.top_k,
        presence_penalty: asked.presence_penalty,
        frequency_penalty: asked.frequency_penalty,
        logit_bias: asked.logit_bias.clone(),
        constraint: asked.constraint.clone(),
        seed: asked.seed,
        max_tokens: asked.max_tokens,
        stop: asked.stop.clone(),
        ..Sampling::default()
    };
    if *asked != sent {
        return unsupported("this sampling at a teacher");
    }
    match &asked.constraint {
        None | Some(Constraint::JsonObject | Constraint::JsonSchema(_)) => Ok(()),
        Some(Constraint::Regex(_) | Constraint::Choice(_) | Constraint::Grammar(_)) => {
            unsupported("constraints other than JSON at a teacher")
        }
    }
}

fn vllm(request: &GenerateRequest) -> Result<(), InferenceError> {
    if request.returns.prompt_top.is_some() {
        return Err(InferenceError::Unsupported("scores of prompts at a fleet"));
    }
    if !request.returns.named.is_empty() {
        return Err(InferenceError::Unsupported("log-probabilities of named tokens at a fleet"));
    }
    if request.returns.log_probs == Some(understudy_inference::LogProbsOf::Processed) {
        return Err(InferenceError::Unsupported("processed log-probabilities at a fleet"));
    }
    Ok(())
}
