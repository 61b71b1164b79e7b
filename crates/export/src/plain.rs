//! Rows as other programs expect them: the content of a message is one text, and the arguments of a
//! tool call and the definitions of tools are the JSON they are, or that JSON as text.

use serde_json::{Map, Value};

use crate::Arguments;

/// The columns that hold messages.
const CONVERSATIONS: [&str; 4] = ["prompt", "completion", "chosen", "rejected"];

pub(crate) fn row(mut row: Value, arguments: Arguments) -> Value {
    for column in CONVERSATIONS {
        let messages = row.get_mut(column).and_then(Value::as_array_mut);
        for message in messages.into_iter().flatten().filter_map(Value::as_object_mut) {
            plain_message(message, arguments);
        }
    }
    if let Some(tools) = row.get_mut("tools").filter(|_| arguments == Arguments::Text) {
        *tools = Value::String(tools.to_string());
    }
    row
}

fn plain_message(message: &mut Map<String, Value>, arguments: Arguments) {
    if let Some(content) = message.get_mut("content")
        && let Some(parts) = content.as_array()
    {
        // A version holds text only; a chat template would print a list of parts as such.
        let texts = parts.iter().filter_map(|part| part.get("text")?.as_str());
        *content = Value::String(texts.collect());
    }
    let calls = message.get_mut("tool_calls").and_then(Value::as_array_mut);
    for call in calls.into_iter().flatten() {
        let Some(written) = call.pointer_mut("/function/arguments") else { continue };
        // What is no JSON stays the text it is, which is JSON as well.
        if arguments == Arguments::Json
            && let Some(parsed) = written.as_str().and_then(|text| serde_json::from_str(text).ok())
        {
            *written = parsed;
        }
    }
}
