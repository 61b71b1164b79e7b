//! The JSON both sides of a chat exchange send.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use understudy_message::Message;

use crate::json;

#[derive(Debug, Serialize)]
pub(super) struct Request<'a> {
    pub(super) model: &'a str,
    pub(super) messages: &'a [Message],
    pub(super) temperature: f64,
}

#[derive(Deserialize)]
struct Reply {
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
}

/// The JSON object in a chat completion's text. Judges like to put a fence or a sentence around it.
pub(super) fn judgement(body: &str) -> Result<Value, String> {
    let reply: Reply = serde_json::from_str(body)
        .map_err(|why| format!("its answer is no chat completion ({why})"))?;
    let text = reply.choices.first().map(|choice| choice.message.text()).unwrap_or_default();
    let object = text.find('{').zip(text.rfind('}')).filter(|(open, close)| open < close);
    let object = object.and_then(|(open, close)| json::parse(&text[open..=close]).ok());
    object.ok_or_else(|| {
        let said: String = text.chars().take(200).collect();
        format!("it was asked for a JSON object and said: {said}")
    })
}
