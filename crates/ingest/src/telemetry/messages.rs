//! Messages in any of the shapes that frameworks write them in, read into one.
//!
//! OpenAI chat and responses, GenAI parts, Anthropic blocks, LangChain constructors, dumps and
//! pairs, and the Vercel SDK's parts differ in names only, so one tolerant reader takes them all;
//! a dialect decides where to look, not how to read.

mod output;
mod parts;

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use understudy_ident::Digest;
use understudy_manifest::canonical_json;
use understudy_message::{Content, FunctionCall, Message, Role, ToolCall};

pub(crate) use output::read_output;

use self::parts::Parts;

/// What OpenInference writes in place of masked content.
pub(super) const HIDDEN: &str = "__REDACTED__";

/// Reads messages, and keeps what is too heavy to stay inside them.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// Media that were inline, by digest.
    pub(crate) blobs: BTreeMap<Digest, Vec<u8>>,
    /// Parts that the source masked.
    pub(crate) hidden: usize,
}

impl Reader {
    /// All messages of a value; a text alone is said by `speaker`.
    pub(crate) fn read(&mut self, value: &Value, speaker: Role) -> Vec<Message> {
        let mut messages = Vec::new();
        self.read_into(value, speaker, &mut messages);
        messages
    }

    fn read_into(&mut self, value: &Value, speaker: Role, messages: &mut Vec<Message>) {
        match value {
            Value::String(text) if !text.is_empty() => {
                self.message(speaker, &Map::new(), value, messages);
            }
            Value::Array(items) => {
                if let Some((role, content)) = pair(items) {
                    self.message(role, &Map::new(), content, messages);
                    return;
                }
                for item in items {
                    self.read_into(item, speaker, messages);
                }
            }
            Value::Object(object) => self.read_object(object, speaker, messages),
            _ => {}
        }
    }

    fn read_object(
        &mut self,
        object: &Map<String, Value>,
        speaker: Role,
        messages: &mut Vec<Message>,
    ) {
        let kind = object.get("type").and_then(Value::as_str).unwrap_or_default();
        // LangChain: {"lc": 1, "id": […, "HumanMessage"], "kwargs": {…}} and {"type", "data": {…}}.
        if let Some(Value::Object(kwargs)) = object.get("kwargs") {
            let class = object.get("id").and_then(|id| id.as_array()?.last()?.as_str());
            let role = class.and_then(role_named).or_else(|| role_of(kwargs)).unwrap_or(speaker);
            let content = kwargs.get("content").unwrap_or(&Value::Null);
            return self.message(role, kwargs, content, messages);
        }
        if let (Some(role), Some(Value::Object(data))) = (role_named(kind), object.get("data")) {
            let content = data.get("content").unwrap_or(&Value::Null);
            return self.message(role, data, content, messages);
        }
        match (kind, object.get("messages"), object.get("message")) {
            ("function_call", ..) => return add_response_call(object, messages),
            ("function_call_output", ..) => {
                let output = object.get("output").unwrap_or(&Value::Null);
                return self.message(Role::Tool, object, output, messages);
            }
            (_, Some(list), _) => return self.read_into(list, speaker, messages),
            (_, None, Some(inner)) => return self.read_into(inner, speaker, messages),
            _ => {}
        }
        let content = ["parts", "contents", "content", "text"]
            .iter()
            .find_map(|name| object.get(*name).filter(|content| !content.is_null()));
        let role = role_of(object);
        if role.is_none() && content.is_none() && !object.contains_key("tool_calls") {
            return;
        }
        let role = role.unwrap_or(speaker);
        self.message(role, object, content.unwrap_or(&Value::Null), messages);
    }

    /// Adds what one message holds: itself, and a message for each tool result inside it.
    fn message(
        &mut self,
        role: Role,
        fields: &Map<String, Value>,
        content: &Value,
        messages: &mut Vec<Message>,
    ) {
        let mut parts = Parts::default();
        parts.read(self, content);
        let listed = fields.get("tool_calls").and_then(Value::as_array);
        for call in listed.into_iter().flatten().filter_map(tool_call) {
            // LangChain repeats in `tool_calls` what an Anthropic content list holds already.
            if !parts.calls.iter().any(|known| !known.id.is_empty() && known.id == call.id) {
                parts.calls.push(call);
            }
        }
        if let Some(Value::String(refusal)) = fields.get("refusal") {
            parts.other("refusal", "refusal", refusal);
        }
        let named = |keys: &[&str]| {
            let found = keys.iter().find_map(|key| fields.get(*key).and_then(Value::as_str));
            found.filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let results = std::mem::take(&mut parts.results);
        let is_empty = parts.content.is_empty() && parts.calls.is_empty();
        if !(is_empty && (!results.is_empty() || role == Role::Tool && content.is_null())) {
            let tool_call_id = match role {
                Role::Tool => named(&["tool_call_id", "call_id", "toolCallId", "id"]),
                Role::System | Role::User | Role::Assistant => None,
            };
            messages.push(Message {
                role,
                content: parts.content(),
                name: named(&["name"]),
                tool_calls: parts.calls,
                tool_call_id,
            });
        }
        messages.extend(results);
    }
}

/// Messages alone, for formats that have no place for what stands beside them.
pub(crate) fn read_messages(value: &Value) -> Vec<Message> {
    Reader::default().read(value, Role::User)
}

/// Arguments as the model would have to write them: canonical JSON where they are JSON.
pub(crate) fn arguments(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => match serde_json::from_str::<Value>(text) {
            Ok(parsed @ (Value::Object(_) | Value::Array(_))) => canonical_json(&parsed),
            _ => text.clone(),
        },
        Some(other) => canonical_json(other),
    }
}

/// The text of a tool's result, whatever it is wrapped in.
pub(crate) fn result_text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => match serde_json::from_str::<Value>(text) {
            // A framework that writes results as JSON quotes the plain ones.
            Ok(Value::String(inner)) => inner,
            _ => text.clone(),
        },
        Value::Array(items) if items.iter().all(|item| item.get("text").is_some()) => {
            items.iter().filter_map(|item| item.get("text")?.as_str()).collect()
        }
        other => canonical_json(other),
    }
}

/// `{"id", "function": {"name", "arguments"}}`, or the flat forms of LangChain and others.
pub(crate) fn tool_call(value: &Value) -> Option<ToolCall> {
    let call = value.get("tool_call").unwrap_or(value);
    let function = call.get("function").unwrap_or(call);
    let first = |keys: &[&str]| keys.iter().find_map(|key| function.get(*key).or(call.get(*key)));
    let name = first(&["name", "toolName"])?.as_str()?.to_owned();
    let id = ["id", "call_id", "toolCallId"].iter().find_map(|key| call.get(*key)?.as_str());
    let given = arguments(first(&["arguments", "args", "input"]));
    let function = FunctionCall { name, arguments: given };
    Some(ToolCall { id: id.unwrap_or_default().to_owned(), kind: "function".to_owned(), function })
}

/// The responses API lists calls beside messages; those of one turn are one message in chat form.
fn add_response_call(object: &Map<String, Value>, messages: &mut Vec<Message>) {
    let value = Value::Object(object.clone());
    let Some(mut call) = tool_call(&value) else { return };
    if let Some(id) = object.get("call_id").and_then(Value::as_str) {
        id.clone_into(&mut call.id);
    }
    match messages.last_mut() {
        Some(last) if last.role == Role::Assistant => last.tool_calls.push(call),
        _ => {
            let mut message = Message::assistant("");
            message.tool_calls.push(call);
            messages.push(message);
        }
    }
}

/// `["user", "Weather in Paris?"]`.
fn pair(items: &[Value]) -> Option<(Role, &Value)> {
    match items {
        [Value::String(role), content @ Value::String(_)] => Some((role_named(role)?, content)),
        _ => None,
    }
}

fn role_of(object: &Map<String, Value>) -> Option<Role> {
    let name = object.get("role").or_else(|| object.get("type")).and_then(Value::as_str)?;
    role_named(name)
}

fn role_named(name: &str) -> Option<Role> {
    let name = name.trim_end_matches("MessageChunk").trim_end_matches("Message");
    match name.to_ascii_lowercase().as_str() {
        "system" | "developer" => Some(Role::System),
        "user" | "human" => Some(Role::User),
        "assistant" | "ai" | "model" => Some(Role::Assistant),
        "tool" | "function" | "function_call_output" => Some(Role::Tool),
        _ => None,
    }
}

/// A content list that was put together part by part.
fn content(parts: Vec<Value>) -> Content {
    serde_json::from_value(Value::Array(parts)).expect("every part was given a type")
}
