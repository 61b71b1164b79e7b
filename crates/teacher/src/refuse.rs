//! What every teacher says to those who treat it as an engine.

use understudy_inference::{
    Admission, Chat, Constraint, GenerateRequest, InferenceError, Prompt, Returns, Sampling,
};
use understudy_message::Message;

/// The messages of a request that asks for nothing beyond text: what a script can answer.
pub(crate) fn messages(request: &GenerateRequest) -> Result<&[Message], InferenceError> {
    let chat = conversation(request)?;
    if *chat != Chat::new(chat.messages.clone()) {
        return Err(InferenceError::Unsupported("tools or other templates at a scripted teacher"));
    }
    let Sampling { temperature, top_p, top_k, seed, max_tokens, stop, .. } =
        request.sampling.clone();
    let known =
        Sampling { temperature, top_p, top_k, seed, max_tokens, stop, ..Sampling::default() };
    if request.sampling != known {
        return Err(InferenceError::Unsupported(
            "edited scores or constraints at a scripted teacher",
        ));
    }
    if request.admission.timeout.is_some() {
        return Err(InferenceError::Unsupported("deadlines at a scripted teacher"));
    }
    Ok(&chat.messages)
}

/// The conversation of a request that asks for nothing an OpenAI endpoint has no field for.
pub(crate) fn remote(request: &GenerateRequest) -> Result<&Chat, InferenceError> {
    let chat = conversation(request)?;
    let unsupported = |what| Err(InferenceError::Unsupported(what));
    let Chat { messages, tools, template_variables, .. } = chat;
    let plain = Chat {
        tools: tools.clone(),
        template_variables: template_variables.clone(),
        ..Chat::new(messages.clone())
    };
    if *chat != plain {
        return unsupported("other templates or open messages at a teacher");
    }
    if template_variables.keys().any(|name| !FORWARDED.contains(&name.as_str())) {
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
        None | Some(Constraint::JsonObject | Constraint::JsonSchema(_)) => Ok(chat),
        Some(Constraint::Regex(_) | Constraint::Choice(_) | Constraint::Grammar(_)) => {
            unsupported("constraints other than JSON at a teacher")
        }
    }
}

/// Variables of a template that OpenAI has fields for.
pub(crate) const FORWARDED: [&str; 3] = ["tool_choice", "parallel_tool_calls", "reasoning_effort"];

/// What every teacher has: messages, and no say over weights, scores or queues.
fn conversation(request: &GenerateRequest) -> Result<&Chat, InferenceError> {
    request.sampling.validate()?;
    let invalid = |field, why| Err(InferenceError::invalid(field, why));
    if request.adapter.is_some() {
        return invalid("adapter", "must be absent: a teacher has no adapters");
    }
    if request.returns != Returns::default() {
        return Err(InferenceError::Unsupported("log-probabilities at a teacher"));
    }
    // A teacher counts its own tokens and keeps its own cache; the rest is up to its queue.
    let Admission { must_fit, timeout, .. } = request.admission;
    if request.admission != (Admission { must_fit, timeout, ..Admission::default() }) {
        return Err(InferenceError::Unsupported("priorities or salts at a teacher"));
    }
    match &request.prompt {
        Prompt::Chat(chat) if chat.messages.is_empty() => {
            invalid("messages", "must hold at least one message")
        }
        Prompt::Chat(chat) => Ok(chat),
        Prompt::Text(_) | Prompt::Tokens(_) => {
            invalid("prompt", "must be messages: raw text and token ids mean nothing to a teacher")
        }
    }
}
