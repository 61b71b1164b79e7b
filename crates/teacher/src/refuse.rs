//! What every teacher says to those who treat it as an engine.

use understudy_inference::{GenerateRequest, InferenceError, Prompt};
use understudy_message::Message;

/// The messages of a request that asks for nothing a teacher lacks.
pub(crate) fn messages(request: &GenerateRequest) -> Result<&[Message], InferenceError> {
    request.sampling.validate()?;
    if request.adapter.is_some() {
        return Err(InferenceError::invalid(
            "adapter",
            "must be absent: a teacher has no adapters",
        ));
    }
    match &request.prompt {
        Prompt::Messages(messages) if messages.is_empty() => {
            Err(InferenceError::invalid("messages", "must hold at least one message"))
        }
        Prompt::Messages(messages) => Ok(messages),
        Prompt::Tokens(_) => Err(InferenceError::invalid(
            "prompt",
            "must be messages: token ids mean nothing to a teacher",
        )),
    }
}

pub(crate) fn load(teacher: &str, alias: &str) -> InferenceError {
    let why = format!("`{teacher}` is a teacher and has no adapters; load it into an engine");
    InferenceError::BadAdapter { alias: alias.to_owned(), why }
}

pub(crate) fn unload(teacher: &str, alias: &str) -> InferenceError {
    let loaded = format!("none, `{teacher}` is a teacher");
    InferenceError::UnknownAdapter { alias: alias.to_owned(), loaded }
}
