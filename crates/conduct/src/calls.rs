//! Whether tool calls can be carried out.

use serde_json::Value;
use understudy_message::ToolCall;

/// What models write around a call. In a text that was read for calls it is one that could not be
/// read.
const OPEN: &str = "<tool_call>";

/// A call of a tool nobody offered, or with arguments its schema does not allow.
pub(crate) fn any_is_invalid(tools: &[Value], calls: &[ToolCall]) -> bool {
    calls.iter().any(|call| {
        let name = &call.function.name;
        match tools.iter().find_map(|tool| parameters(tool, name)) {
            None => true,
            Some(schema) => !takes(schema, &call.function.arguments),
        }
    })
}

/// Tools were offered, and the text holds what was meant as a call and is none.
pub(crate) fn left_in_text(tools: &[Value], text: &str) -> bool {
    !tools.is_empty() && text.contains(OPEN)
}

/// The schema of the tool of this name; a tool without one takes no arguments.
fn parameters<'a>(tool: &'a Value, name: &str) -> Option<&'a Value> {
    let function = tool.get("function").unwrap_or(tool);
    let named = function.get("name").and_then(Value::as_str) == Some(name);
    named.then(|| function.get("parameters").unwrap_or(&Value::Null))
}

fn takes(schema: &Value, arguments: &str) -> bool {
    // Clients send an empty text for a call without arguments.
    let arguments = if arguments.trim().is_empty() { "{}" } else { arguments };
    let Ok(value @ Value::Object(_)) = serde_json::from_str::<Value>(arguments) else {
        return false;
    };
    if schema.is_null() {
        return true;
    }
    jsonschema::validator_for(schema).map_or(true, |schema| schema.is_valid(&value))
}
