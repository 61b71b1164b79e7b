//! Tool calls, wherever a model put them.
//!
//! A message's own `tool_calls` win. Otherwise its text is searched for the form that Hermes and
//! Qwen templates teach, `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, and otherwise for
//! lines that are such an object by themselves.

use serde_json::{Map, Value};
use understudy_message::{FunctionCall, Message};

use crate::json;

/// A call that could be understood.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    pub name: String,
    pub arguments: Map<String, Value>,
}

/// Why something that looks like a call is none, in words for the model that made it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MalformedCall(pub String);

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";

/// Every call of a message in order, malformed ones in their places.
pub fn calls_of(message: &Message) -> Vec<Result<Call, MalformedCall>> {
    if !message.tool_calls.is_empty() {
        return message.tool_calls.iter().map(|call| Call::of(&call.function)).collect();
    }
    let text = message.text();
    if text.contains(OPEN) {
        // A sampler may stop at the closing tag and leave it out.
        let inside = |part: &str| Call::parse(part.split(CLOSE).next().unwrap_or_default());
        return text.split(OPEN).skip(1).map(inside).collect();
    }
    text.lines().filter_map(|line| Call::parse(line).ok()).map(Ok).collect()
}

impl Call {
    pub fn new<K: Into<String>>(
        name: impl Into<String>,
        arguments: impl IntoIterator<Item = (K, Value)>,
    ) -> Self {
        let arguments = arguments.into_iter().map(|(key, value)| (key.into(), value)).collect();
        Self { name: name.into(), arguments }
    }

    /// Reads `{"name": …, "arguments": {…}}` and nothing around it.
    pub fn parse(text: &str) -> Result<Self, MalformedCall> {
        let malformed = |why: &str| Err(MalformedCall(why.to_owned()));
        let object = match json::parse(text.trim()) {
            Ok(Value::Object(object)) => object,
            Ok(_) => return malformed("a tool call must be a JSON object"),
            Err(why) => return malformed(&format!("the tool call is not valid JSON: {why}")),
        };
        let Some(name) = object.get("name").and_then(Value::as_str) else {
            return malformed("a tool call needs a `name`");
        };
        match object.get("arguments") {
            Some(Value::Object(arguments)) => {
                Ok(Self { name: name.to_owned(), arguments: arguments.clone() })
            }
            Some(Value::String(text)) => {
                Self::of(&FunctionCall { name: name.to_owned(), arguments: text.clone() })
            }
            _ => malformed("a tool call needs `arguments`, a JSON object"),
        }
    }

    /// The OpenAI form, whose arguments are JSON inside a string; none at all is an empty object.
    fn of(call: &FunctionCall) -> Result<Self, MalformedCall> {
        let text = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
        let name = &call.name;
        match json::parse(text) {
            Ok(Value::Object(arguments)) => Ok(Self { name: name.clone(), arguments }),
            Ok(_) => Err(MalformedCall(format!("the arguments of `{name}` must be an object"))),
            Err(why) => {
                Err(MalformedCall(format!("the arguments of `{name}` are not valid JSON: {why}")))
            }
        }
    }

    /// The same tool with equal arguments, compared as JSON: 1 is 1.0, key order is free.
    pub fn matches(&self, other: &Self) -> bool {
        let (mine, others) = (self.arguments.clone(), other.arguments.clone());
        self.name == other.name && json::equal(&Value::Object(mine), &Value::Object(others))
    }
}

/// Whether two lists hold the same calls, in any order, each as often.
pub fn same_calls(expected: &[Call], made: &[Call]) -> bool {
    let mut open: Vec<&Call> = made.iter().collect();
    expected.len() == made.len()
        && expected.iter().all(|call| {
            let found = open.iter().position(|other| call.matches(other));
            found.map(|at| open.swap_remove(at)).is_some()
        })
}
