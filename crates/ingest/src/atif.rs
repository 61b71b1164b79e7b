//! The Agent Trajectory Interchange Format (Harbor's RFC 0001, versions 1.0 to 1.7).
//!
//! Costs and token ids stay behind: a step has no place for the first, and ids mean nothing without
//! the digest of their tokenizer, which the format does not hold.

use serde_json::Value;
use understudy_ident::{TaskName, Timestamp};
use understudy_inference::Usage;
use understudy_manifest::digest_json;
use understudy_message::{FunctionCall, Message, Role, ToolCall};
use understudy_trajectory::Step;

use crate::{
    Row,
    reading::{Recording, nth_time},
    telemetry::{argument_text, read_messages, result_text, tool_definition},
};

/// A step for each step of the agent, prompted by all that came before it. Trajectories of
/// sub-agents inside it are read as trajectories of their own.
pub(crate) fn read(row: &Row, task: &TaskName, at: Timestamp) -> Result<Vec<Step>, String> {
    let version = row.get("schema_version").and_then(Value::as_str).unwrap_or_default();
    if !version.starts_with("ATIF-v1.") {
        return Err(format!("cannot read schema version `{version}`: ATIF-v1.0 to v1.7 are known"));
    }
    let list = row.get("steps").and_then(Value::as_array).ok_or("there is no list `steps`")?;
    let agent = row.get("agent");
    let text = |name: &str| row.get(name).and_then(Value::as_str).map(str::to_owned);
    let tools = tools(agent);
    let told = (text("session_id"), text("trajectory_id"), list);
    let recording = Recording {
        task,
        digest: if tools.is_empty() { digest_json(&told) } else { digest_json(&(told, &tools)) },
        subject: None,
        session: text("session_id"),
        tools,
    };
    let model = agent.and_then(|agent| agent.get("model_name")?.as_str());
    let mut said: Vec<Message> = Vec::new();
    let mut steps = Vec::new();
    for (place, item) in list.iter().enumerate() {
        let source = item.get("source").and_then(Value::as_str).unwrap_or_default();
        let role = match source {
            "system" => Role::System,
            "user" => Role::User,
            "agent" => Role::Assistant,
            other => return Err(format!("step {} has the unknown source `{other}`", place + 1)),
        };
        let message = message(role, item);
        let is_copy = item.get("is_copied_context").and_then(Value::as_bool) == Some(true);
        if role == Role::Assistant && !is_copy && !is_empty(&message) {
            let model = item.get("model_name").and_then(Value::as_str).or(model);
            let told = item.get("timestamp").and_then(Value::as_str);
            let told = told.and_then(|text| text.parse().ok());
            let at = told.unwrap_or_else(|| nth_time(at, place));
            let model = model.unwrap_or("imported");
            let mut step = recording.step(place, said.clone(), message.clone(), model, at);
            step.usage = usage(item);
            steps.push(step);
        }
        if !is_empty(&message) {
            said.push(message);
        }
        said.extend(observation(item));
    }
    let inner = row.get("subagent_trajectories").and_then(Value::as_array);
    for inner in inner.into_iter().flatten().filter_map(Value::as_object) {
        steps.extend(read(inner, task, at)?);
    }
    if steps.iter().any(|step| step.prompt.is_empty()) {
        return Err("the agent speaks before anybody else does".to_owned());
    }
    if steps.is_empty() {
        return Err("the agent says nothing".to_owned());
    }
    Ok(steps)
}

/// From version 1.5 on the agent may tell what it could call.
fn tools(agent: Option<&Value>) -> Vec<Value> {
    let list = agent.and_then(|agent| agent.get("tool_definitions")?.as_array());
    list.into_iter().flatten().cloned().map(tool_definition).collect()
}

fn message(role: Role, item: &Value) -> Message {
    let mut message = Message::new(role, "");
    if let Some(content) = item.get("message") {
        let said = serde_json::json!([{"role": role.as_str(), "content": content}]);
        if let Some(read) = read_messages(&said).into_iter().next() {
            message = read;
        }
    }
    let calls = item.get("tool_calls").and_then(Value::as_array);
    message.tool_calls = calls.into_iter().flatten().filter_map(tool_call).collect();
    message
}

fn tool_call(call: &Value) -> Option<ToolCall> {
    let text = |name: &str| call.get(name).and_then(Value::as_str).map(str::to_owned);
    let arguments = argument_text(call.get("arguments"));
    let function = FunctionCall { name: text("function_name")?, arguments };
    let id = text("tool_call_id").unwrap_or_default();
    Some(ToolCall { id, kind: "function".to_owned(), function })
}

/// What the environment answered: to a call, or, without one, to whoever reads on.
fn observation(item: &Value) -> Vec<Message> {
    let results = item.pointer("/observation/results").and_then(Value::as_array);
    let read = |result: &Value| {
        let text = result_text(result.get("content").unwrap_or(&Value::Null));
        match result.get("source_call_id").and_then(Value::as_str) {
            Some(id) => {
                let mut message = Message::new(Role::Tool, text);
                message.tool_call_id = Some(id.to_owned());
                message
            }
            None => Message::user(text),
        }
    };
    results.into_iter().flatten().map(read).collect()
}

fn usage(item: &Value) -> Usage {
    let count = |name: &str| {
        let count = item.get("metrics").and_then(|metrics| metrics.get(name)?.as_u64());
        count.map_or(0, |count| u32::try_from(count).unwrap_or(u32::MAX))
    };
    let (prompt_tokens, completion_tokens) = (count("prompt_tokens"), count("completion_tokens"));
    Usage { prompt_tokens, completion_tokens, cached_tokens: 0 }
}

fn is_empty(message: &Message) -> bool {
    message.content.parts().is_empty() && message.tool_calls.is_empty()
}
