//! What a template is given, guarded against passing for the template's own words.

use serde_json::{Map, Value, json};
use understudy_message::{Message, Role};

use crate::{
    error::{Result, refuse},
    tokenizer::{Markers, Voice},
};

/// A conversation and how it is to be written down.
#[derive(Debug, Clone, Copy)]
pub struct Conversation<'a> {
    pub messages: &'a [Message],
    /// OpenAI tool definitions.
    pub tools: &'a [Value],
    /// Further variables the template may look at.
    pub variables: Option<&'a Map<String, Value>>,
    pub ending: Ending,
}

/// Where the text of a conversation ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// After the last message.
    Closed,
    /// Where the assistant's next message begins.
    Reply,
    /// Within the last message, which goes on.
    Continued,
}

impl<'a> Conversation<'a> {
    /// One the assistant is to answer.
    pub fn open(messages: &'a [Message]) -> Self {
        Self { messages, tools: &[], variables: None, ending: Ending::Reply }
    }

    /// One that has been answered.
    pub fn closed(messages: &'a [Message]) -> Self {
        Self { ending: Ending::Closed, ..Self::open(messages) }
    }
}

/// A message as templates expect it: plain text content, and tool arguments as an object, although
/// the OpenAI wire has them as a string.
pub(super) fn template_message(message: &Message) -> Result<Value> {
    if !message.content.is_text_only() {
        return Err(refuse!(
            Template,
            "this model reads text; a message has content of another kind"
        ));
    }
    let mut value = serde_json::to_value(message)
        .map_err(|error| refuse!(Template, "a message does not serialise: {error}"))?;
    value["content"] = json!(message.text());
    if let Some(Value::Array(calls)) = value.get_mut("tool_calls") {
        for call in calls {
            let Some(arguments) = call.pointer_mut("/function/arguments") else { continue };
            let parsed = arguments.as_str().and_then(|text| serde_json::from_str(text).ok());
            if let Some(parsed @ Value::Object(_)) = parsed {
                *arguments = parsed;
            }
        }
    }
    Ok(value)
}

/// The same with every text in it guarded, but for the role, which is one of four words.
pub(super) fn guarded_message(message: &Message, markers: &Markers) -> Result<Value> {
    let voice = match message.role {
        Role::Assistant => Voice::Model,
        Role::System | Role::User | Role::Tool => Voice::Other,
    };
    let mut value = template_message(message)?;
    for (key, field) in value.as_object_mut().into_iter().flatten() {
        match key.as_str() {
            "role" => {}
            "content" => *field = guarded(field, markers, voice),
            _ => *field = guarded(field, markers, Voice::Other),
        }
    }
    Ok(value)
}

/// A value with every string and every key in it guarded.
pub(super) fn guarded(value: &Value, markers: &Markers, voice: Voice) -> Value {
    match value {
        Value::String(text) => Value::String(markers.guard(text, voice)),
        Value::Array(items) => items.iter().map(|item| guarded(item, markers, voice)).collect(),
        Value::Object(fields) => {
            let field = |(key, value): (&String, &Value)| {
                (markers.guard(key, voice), guarded(value, markers, voice))
            };
            Value::Object(fields.iter().map(field).collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}
