//! How a model calls a tool in text, and how a call is written for it to imitate.
//!
//! Three spellings of one call, all understood at any time:
//! - [`CallStyle::Line`]: `lookup(A17)` on a line of its own, for models too small for JSON;
//! - [`CallStyle::Json`]: `<tool_call>{"name": "lookup", "arguments": {"code": "A17"}}</tool_call>`,
//!   as Hermes and Qwen templates teach, also without the tags on a line of its own;
//! - [`CallStyle::Native`]: the message's own `tool_calls`, when the server parsed them.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use understudy_message::{FunctionCall, Message, ToolCall};
use understudy_reward::calls::{Call, MalformedCall, calls_of};

/// In which spelling demonstrations call tools.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallStyle {
    #[default]
    Line,
    Json,
    Native,
}

/// A tool with one argument, which is what can be called on a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature {
    pub tool: &'static str,
    pub argument: &'static str,
    pub description: &'static str,
}

impl Signature {
    /// The OpenAI schema.
    pub fn schema(&self) -> Value {
        json!({"type": "function", "function": {
            "name": self.tool,
            "description": self.description,
            "parameters": {
                "type": "object",
                "properties": {self.argument: {"type": "string"}},
                "required": [self.argument],
                "additionalProperties": false,
            },
        }})
    }
}

/// The calls of a message in order. Any of the JSON forms goes before lines.
pub fn read_calls(message: &Message, tools: &[Signature]) -> Vec<Result<Call, MalformedCall>> {
    let found = calls_of(message);
    if !found.is_empty() {
        return found;
    }
    message.text().lines().filter_map(|line| read_line(line.trim(), tools)).collect()
}

/// A message that makes one call and says nothing else; `id` is only for [`CallStyle::Native`].
pub fn write_call(call: &Call, style: CallStyle, id: &str) -> Message {
    let object = || json!({"name": call.name, "arguments": call.arguments});
    match style {
        CallStyle::Line => {
            let argument = call.arguments.values().next().map(plain).unwrap_or_default();
            Message::assistant(format!("{}({argument})", call.name))
        }
        CallStyle::Json => Message::assistant(format!("<tool_call>\n{}\n</tool_call>", object())),
        CallStyle::Native => {
            let arguments = Value::Object(call.arguments.clone()).to_string();
            let function = FunctionCall { name: call.name.clone(), arguments };
            let call = ToolCall { id: id.to_owned(), kind: "function".to_owned(), function };
            Message { tool_calls: vec![call], ..Message::assistant("") }
        }
    }
}

/// `tool(argument)` and nothing else; a quoted argument is the text inside the quotes. A line that
/// opens a known tool's bracket and goes wrong after it is a malformed call, any other line is talk.
fn read_line(line: &str, tools: &[Signature]) -> Option<Result<Call, MalformedCall>> {
    let (name, rest) = line.split_once('(')?;
    let tool = tools.iter().find(|tool| tool.tool == name.trim_end())?;
    let Some(inside) = rest.strip_suffix(')') else {
        let why = format!("`{line}` is no call; write {}({})", tool.tool, tool.argument);
        return Some(Err(MalformedCall(why)));
    };
    let unquoted = ['"', '\''].iter().find_map(|quote| {
        inside.trim().strip_prefix(*quote).and_then(|rest| rest.strip_suffix(*quote))
    });
    let argument = unquoted.unwrap_or(inside.trim());
    Some(Ok(Call::new(tool.tool, [(tool.argument, argument.into())])))
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests;
