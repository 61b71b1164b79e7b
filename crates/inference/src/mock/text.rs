//! The mock's tokenizer: a token is a byte, and one more ends a turn.

use std::fmt::Write as _;

use crate::{Chat, InferenceError, Prompt};

/// Ends a turn.
pub(super) const END: u32 = 256;
/// How the end of a turn looks where markers are shown.
pub(super) const END_TEXT: &str = "<|end|>";
pub(super) const VOCABULARY: usize = 257;
const TO_STRING: &str = "writing to a string cannot fail";

pub(super) fn tokenize(prompt: &Prompt) -> Result<Vec<u32>, InferenceError> {
    let ids = match prompt {
        Prompt::Text(text) => encode(text),
        Prompt::Chat(chat) => encode(&render(chat)?),
        Prompt::Tokens(ids) => {
            check("prompt", ids)?;
            ids.clone()
        }
    };
    if ids.is_empty() {
        return Err(InferenceError::invalid("prompt", "must hold at least one token"));
    }
    Ok(ids)
}

/// Whether all of these are tokens.
pub(super) fn check(field: &'static str, ids: &[u32]) -> Result<(), InferenceError> {
    match ids.iter().find(|id| **id as usize >= VOCABULARY) {
        None => Ok(()),
        Some(id) => {
            let why = format!("holds token {id}; the vocabulary has {VOCABULARY}");
            Err(InferenceError::invalid(field, why))
        }
    }
}

fn encode(text: &str) -> Vec<u32> {
    let mut ids = Vec::with_capacity(text.len());
    for (n, part) in text.split(END_TEXT).enumerate() {
        if n > 0 {
            ids.push(END);
        }
        ids.extend(part.bytes().map(u32::from));
    }
    ids
}

pub(super) fn detokenize(ids: &[u32]) -> Result<String, InferenceError> {
    let mut bytes = Vec::new();
    for id in ids {
        let token = token_bytes(*id).ok_or_else(|| {
            let why = format!("hold {id}; the vocabulary has {VOCABULARY}");
            InferenceError::invalid("tokens", why)
        })?;
        bytes.extend(token);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

pub(super) fn token_bytes(id: u32) -> Option<Vec<u8>> {
    match u8::try_from(id) {
        Ok(byte) => Some(vec![byte]),
        Err(_) if id == END => Some(END_TEXT.as_bytes().to_vec()),
        Err(_) => None,
    }
}

fn render(chat: &Chat) -> Result<String, InferenceError> {
    if chat.template.is_some() {
        return Err(InferenceError::Unsupported("other chat templates than its own"));
    }
    if chat.messages.is_empty() {
        return Err(InferenceError::invalid("messages", "must hold at least one message"));
    }
    let mut text = String::new();
    if !chat.tools.is_empty() {
        let tools: Vec<String> = chat.tools.iter().map(ToString::to_string).collect();
        write!(text, "<|tools|>{}{END_TEXT}", tools.join(",")).expect(TO_STRING);
    }
    let last = chat.messages.len() - 1;
    for (n, message) in chat.messages.iter().enumerate() {
        write!(text, "<|{}|>{}", message.role.as_str(), message.text()).expect(TO_STRING);
        for call in &message.tool_calls {
            let function = &call.function;
            write!(text, "{}({})", function.name, function.arguments).expect(TO_STRING);
        }
        if n < last || !chat.continue_final_message {
            text += END_TEXT;
        }
    }
    if chat.add_generation_prompt {
        text += "<|assistant|>";
    }
    Ok(text)
}
