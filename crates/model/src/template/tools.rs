//! Tools for models whose template has no place for them, in the notation Hermes models made
//! common: definitions in the system message, calls as JSON between `<tool_call>` tags.

use serde_json::{Value, json};

use super::python;

/// A definition, and a conversation beside which any template with a place for definitions shows it.
pub(super) fn definition_probe() -> (Vec<Value>, Value) {
    let messages = vec![
        json!({"role": "system", "content": "Be brief."}),
        json!({"role": "user", "content": "Hello."}),
    ];
    let parameters = json!({"type": "object", "properties": {}});
    let function = json!({"name": "probe", "description": "None.", "parameters": parameters});
    (messages, json!([{"type": "function", "function": function}]))
}

/// A conversation with a call and without, which any template with a place for calls tells apart.
pub(super) fn call_probe() -> [Vec<Value>; 2] {
    let function = json!({"name": "probe", "arguments": {}});
    let call = json!({"id": "call_probe", "type": "function", "function": function});
    [json!([call]), json!([])].map(|calls| {
        vec![
            json!({"role": "user", "content": "Hello."}),
            json!({"role": "assistant", "content": "", "tool_calls": calls}),
        ]
    })
}

/// Every message with its calls in its text.
pub(super) fn spell_out_calls(messages: Vec<Value>) -> Vec<Value> {
    messages.into_iter().map(with_calls_as_text).collect()
}

/// The conversation with definitions in its system message.
pub(super) fn spell_out_definitions(mut messages: Vec<Value>, tools: &[Value]) -> Vec<Value> {
    let section = section(tools);
    match messages.first_mut() {
        Some(first) if first["role"] == "system" => {
            let own = first["content"].as_str().unwrap_or_default();
            first["content"] = json!(format!("{own}\n\n{section}"));
        }
        _ => messages.insert(0, json!({"role": "system", "content": section})),
    }
    messages
}

fn section(tools: &[Value]) -> String {
    let definitions: Vec<String> = tools.iter().map(python::dumps).collect();
    format!(
        "You may call functions to help with the user's request. Their signatures are between \
         <tools> and </tools>, one JSON object on each line:\n<tools>\n{}\n</tools>\n\nTo call a \
         function, write its name and arguments as one JSON object between <tool_call> and \
         </tool_call>, a pair of tags for each call:\n<tool_call>\n{{\"name\": <function name>, \
         \"arguments\": <arguments object>}}\n</tool_call>",
        definitions.join("\n")
    )
}

fn with_calls_as_text(mut message: Value) -> Value {
    let Some(Value::Array(calls)) = message.get("tool_calls") else { return message };
    let call = |call: &Value| {
        let function = &call["function"];
        let call = json!({"name": function["name"], "arguments": function["arguments"]});
        format!("<tool_call>\n{}\n</tool_call>", python::dumps(&call))
    };
    let said = message["content"].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let parts: Vec<String> = said.into_iter().chain(calls.iter().map(call)).collect();
    message["content"] = json!(parts.join("\n"));
    if let Some(fields) = message.as_object_mut() {
        fields.shift_remove("tool_calls");
    }
    message
}
