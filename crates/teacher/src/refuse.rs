//! What a script says to those who treat it as an engine.

use understudy_inference::{
    Admission, Chat, GenerateRequest, InferenceError, Prompt, Returns, Sampling,
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
    let Admission { must_fit, timeout, payer, .. } = request.admission.clone();
    if request.admission != (Admission { must_fit, timeout, payer, ..Admission::default() }) {
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
