//! What every teacher says to those who treat it as an engine.

use understudy_inference::{
    Admission, Chat, GenerateRequest, InferenceError, Prompt, Returns, Sampling,
};
use understudy_message::Message;

/// The messages of a request that asks for nothing a teacher lacks.
pub(crate) fn messages(request: &GenerateRequest) -> Result<&[Message], InferenceError> {
    request.sampling.validate()?;
    let invalid = |field, why| Err(InferenceError::invalid(field, why));
    if request.adapter.is_some() {
        return invalid("adapter", "must be absent: a teacher has no adapters");
    }
    forwarded(request)?;
    match &request.prompt {
        Prompt::Chat(chat) if chat.messages.is_empty() => {
            invalid("messages", "must hold at least one message")
        }
        Prompt::Chat(chat) if **chat != Chat::new(chat.messages.clone()) => {
            Err(InferenceError::Unsupported("tools or other templates at a teacher"))
        }
        Prompt::Chat(chat) => Ok(&chat.messages),
        Prompt::Text(_) | Prompt::Tokens(_) => {
            invalid("prompt", "must be messages: raw text and token ids mean nothing to a teacher")
        }
    }
}

/// Whatever is not sent on must not have been asked for: silence would be a wrong answer.
fn forwarded(request: &GenerateRequest) -> Result<(), InferenceError> {
    let Sampling { temperature, top_p, top_k, seed, max_tokens, stop, .. } =
        request.sampling.clone();
    let sent =
        Sampling { temperature, top_p, top_k, seed, max_tokens, stop, ..Sampling::default() };
    if request.sampling != sent {
        return Err(InferenceError::Unsupported("edited scores or constraints at a teacher"));
    }
    if request.returns != Returns::default() {
        return Err(InferenceError::Unsupported("log-probabilities at a teacher"));
    }
    // A teacher counts its own tokens and keeps its own cache; the rest is up to its queue.
    let known = Admission { must_fit: request.admission.must_fit, ..Admission::default() };
    if request.admission != known {
        return Err(InferenceError::Unsupported("priorities, deadlines or salts at a teacher"));
    }
    Ok(())
}
