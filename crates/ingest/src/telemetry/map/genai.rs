//! OpenTelemetry's GenAI conventions, from `gen_ai.system` to today's, and what pydantic-ai and
//! OpenLLMetry add to them under names of their own.

use serde_json::{Map, Value, json};
use understudy_message::Role;
use understudy_trajectory::FrameRole;

use super::{Kind, Sheet, finish_named};
use crate::telemetry::messages::{arguments, result_text};

pub(crate) fn fill(sheet: &mut Sheet) {
    kind(sheet);
    identity(sheet);
    match sheet.kind {
        Some(Kind::Model) => {
            request(sheet);
            content(sheet);
            response(sheet);
        }
        Some(Kind::Tool) => tool(sheet),
        Some(Kind::Retrieval) => retrieval(sheet),
        Some(Kind::Frame(_)) | None => {}
    }
    // Written for the pages that show traces, from attributes that are read above.
    sheet.bag.discard(&["logfire.json_schema", "logfire.msg"]);
}

fn kind(sheet: &mut Sheet) {
    let operation = sheet.bag.text("gen_ai.operation.name");
    if sheet.kind.is_some() {
        return;
    }
    sheet.kind = operation.as_deref().map(|name| match name {
        "chat" | "generate_content" | "text_completion" => Kind::Model,
        "execute_tool" => Kind::Tool,
        "retrieval" => Kind::Retrieval,
        "invoke_agent" | "create_agent" => Kind::Frame(FrameRole::Agent),
        "invoke_workflow" => Kind::Frame(FrameRole::Workflow),
        "embeddings" => Kind::Frame(FrameRole::Embedding),
        "plan" => Kind::Frame(FrameRole::Plan),
        "chain" => Kind::Frame(FrameRole::Chain),
        memory if memory.contains("memory") => Kind::Frame(FrameRole::Memory),
        _ => Kind::Frame(FrameRole::Other),
    });
    let bag = &sheet.bag;
    if sheet.kind.is_none()
        && (bag.has("gen_ai.output.messages") || bag.has("gen_ai.request.model"))
    {
        sheet.kind = Some(Kind::Model);
    }
}

fn identity(sheet: &mut Sheet) {
    let bag = &mut sheet.bag;
    let mut fill = |slot: &mut Option<String>, names: &[&str]| {
        if slot.is_none() {
            *slot = bag.first_text(names);
        }
    };
    fill(&mut sheet.session, &["gen_ai.conversation.id", "session.id"]);
    fill(&mut sheet.subject, &["user.id", "enduser.id"]);
    fill(&mut sheet.agent, &["gen_ai.agent.name"]);
    fill(&mut sheet.workflow, &["gen_ai.workflow.name"]);
}

/// Their names for sampling settings, and OpenAI's.
const PARAMS: [(&str, &str); 11] = [
    ("temperature", "temperature"),
    ("top_p", "top_p"),
    ("top_k", "top_k"),
    ("max_tokens", "max_tokens"),
    ("stop_sequences", "stop"),
    ("seed", "seed"),
    ("frequency_penalty", "frequency_penalty"),
    ("presence_penalty", "presence_penalty"),
    ("choice.count", "n"),
    ("stream", "stream"),
    ("reasoning_effort", "reasoning_effort"),
];

fn request(sheet: &mut Sheet) {
    let bag = &mut sheet.bag;
    let call = &mut sheet.said.call;
    let provider = bag.first_text(&["gen_ai.provider.name", "gen_ai.system"]);
    call.provider = call.provider.take().or(provider);
    bag.discard(&["gen_ai.system"]);
    let requested = bag.text("gen_ai.request.model");
    call.requested = call.requested.take().or(requested);
    for (theirs, ours) in PARAMS {
        if let Some(value) = bag.take(&format!("gen_ai.request.{theirs}")) {
            call.params.entry(ours.to_owned()).or_insert(value);
        }
    }
    if let Some(Value::Array(tools)) = bag.json("gen_ai.tool.definitions") {
        sheet.tools(tools.into_iter());
    }
}

fn content(sheet: &mut Sheet) {
    // Taken in any case: another rule that was first has read the same words elsewhere.
    let instructions = sheet.bag.json("gen_ai.system_instructions");
    let input = sheet.bag.json("gen_ai.input.messages");
    let output = sheet.bag.json("gen_ai.output.messages");
    if sheet.said.input.is_empty() {
        if let Some(instructions) = instructions {
            let message = match instructions {
                Value::Array(parts) => json!({"role": "system", "parts": parts}),
                other => json!({"role": "system", "content": other}),
            };
            sheet.said.input = sheet.reader.read(&message, Role::System);
        }
        if let Some(input) = input {
            let messages = sheet.reader.read(&input, Role::User);
            sheet.said.input.extend(messages);
        }
    }
    if let Some(output) = output {
        sheet.output(&output);
    }
}

fn response(sheet: &mut Sheet) {
    let bag = &mut sheet.bag;
    let call = &mut sheet.said.call;
    let mut fill = |slot: &mut Option<String>, name: &str| {
        let found = bag.text(name);
        *slot = slot.take().or(found);
    };
    fill(&mut call.responded, "gen_ai.response.model");
    fill(&mut call.response_id, "gen_ai.response.id");
    fill(&mut call.previous_response_id, "gen_ai.request.previous_response_id");
    let finish = match bag.json("gen_ai.response.finish_reasons") {
        Some(Value::Array(reasons)) => {
            reasons.first().and_then(Value::as_str).and_then(finish_named)
        }
        Some(Value::String(reason)) => finish_named(&reason),
        _ => None,
    };
    call.finish = finish.or(call.finish.take());
    let seconds = bag.take("gen_ai.response.time_to_first_chunk").and_then(|s| s.as_f64());
    call.first_token_ns = seconds.map(|seconds| (seconds * 1e9) as u64).or(call.first_token_ns);
    let usage = &mut call.usage;
    let mut fill = |slot: &mut Option<u64>, names: &[&str]| {
        let found = bag.count(names);
        *slot = slot.or(found);
    };
    fill(&mut usage.input, &["gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"]);
    fill(&mut usage.output, &["gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"]);
    fill(
        &mut usage.cache_read,
        &["gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens"],
    );
    fill(
        &mut usage.cache_write,
        &[
            "gen_ai.usage.cache_write.input_tokens",
            "gen_ai.usage.cache_creation.input_tokens",
            "gen_ai.usage.cache_creation_input_tokens",
        ],
    );
    fill(
        &mut usage.reasoning,
        &[
            "gen_ai.usage.reasoning.output_tokens",
            "gen_ai.usage.reasoning_tokens",
            "gen_ai.usage.details.reasoning_tokens",
        ],
    );
}

fn tool(sheet: &mut Sheet) {
    let bag = &mut sheet.bag;
    let tool = &mut sheet.tool;
    if let Some(name) = bag.text("gen_ai.tool.name") {
        tool.name = name;
    }
    let call_id = bag.text("gen_ai.tool.call.id");
    tool.call_id = tool.call_id.take().or(call_id);
    let given = bag.take("gen_ai.tool.call.arguments").or_else(|| bag.take("tool_arguments"));
    tool.arguments = tool.arguments.take().or_else(|| given.map(|given| arguments(Some(&given))));
    let result = bag.take("gen_ai.tool.call.result").or_else(|| bag.take("tool_response"));
    tool.result = tool.result.take().or_else(|| result.map(|result| result_text(&result)));
}

fn retrieval(sheet: &mut Sheet) {
    let retrieval = &mut sheet.retrieval;
    let source = sheet.bag.text("gen_ai.data_source.id");
    retrieval.source = retrieval.source.take().or(source);
    let query = sheet.bag.text("gen_ai.retrieval.query.text");
    retrieval.query = retrieval.query.take().or(query);
    if let Some(Value::Array(documents)) = sheet.bag.json("gen_ai.retrieval.documents") {
        retrieval.documents = documents;
    }
}

/// The text of a tool's result inside what a framework returned around it.
pub(crate) fn framed_result(value: &Value) -> String {
    let inner = |name: &str| value.get(name).filter(|inner| !inner.is_null());
    let content = |holder: &Map<String, Value>| holder.get("content").map(result_text);
    let held =
        inner("data").or_else(|| inner("kwargs")).or_else(|| inner("output")).unwrap_or(value);
    let held = held.get("kwargs").unwrap_or(held);
    held.as_object().and_then(content).unwrap_or_else(|| result_text(held))
}
