//! OpenLLMetry: `gen_ai.prompt.N` before it took up the GenAI conventions, and traceloop's own
//! workflows, tools and association properties, then and now.

use serde_json::Value;
use understudy_message::Role;
use understudy_trajectory::FrameRole;

use super::{Kind, Sheet, finish_named};
use crate::telemetry::messages::{arguments, result_text};

pub(crate) fn fill(sheet: &mut Sheet) {
    let bag = &mut sheet.bag;
    sheet.kind = match bag.text("traceloop.span.kind").as_deref() {
        Some("tool") => Some(Kind::Tool),
        Some("agent") => Some(Kind::Frame(FrameRole::Agent)),
        Some("workflow") => Some(Kind::Frame(FrameRole::Workflow)),
        Some(_) => Some(Kind::Frame(FrameRole::Chain)),
        None => match bag.text("llm.request.type").as_deref() {
            Some("chat" | "completion") => Some(Kind::Model),
            Some("embedding") => Some(Kind::Frame(FrameRole::Embedding)),
            Some("rerank") => Some(Kind::Frame(FrameRole::Rerank)),
            _ => None,
        },
    };
    let property = |name: &str| format!("traceloop.association.properties.{name}");
    let sessions = ["session_id", "thread_id", "chat_id"].map(property);
    sheet.session = sessions.iter().find_map(|name| bag.text(name));
    sheet.subject = bag.text(&property("user_id"));
    sheet.workflow = bag.text("traceloop.workflow.name");
    match sheet.kind {
        Some(Kind::Tool) => tool(sheet),
        Some(Kind::Model) => prompt(sheet),
        _ => {}
    }
}

fn prompt(sheet: &mut Sheet) {
    let functions = sheet.bag.list("llm.request.functions");
    let functions = functions.into_iter().map(|mut function| {
        if let Some(Value::String(schema)) = function.get("parameters")
            && let Ok(parsed) = serde_json::from_str::<Value>(schema)
        {
            function["parameters"] = parsed;
        }
        function
    });
    sheet.tools(functions);
    let input = sheet.bag.list("gen_ai.prompt");
    sheet.said.input = input.iter().flat_map(|m| sheet.reader.read(m, Role::User)).collect();
    let output = sheet.bag.list("gen_ai.completion");
    let finish = output.first().and_then(|choice| choice.get("finish_reason")?.as_str());
    sheet.said.call.finish = finish.and_then(finish_named);
    sheet.said.output = output.iter().flat_map(|m| sheet.reader.read(m, Role::Assistant)).collect();
}

fn tool(sheet: &mut Sheet) {
    sheet.tool.name = sheet.bag.text("traceloop.entity.name").unwrap_or_default();
    // The decorator writes {"args": […], "kwargs": {…}}; with names alone these are the arguments.
    if let Some(input) = sheet.bag.json("traceloop.entity.input") {
        let positional = input.get("args").and_then(Value::as_array);
        let named = input.get("kwargs").filter(|_| positional.is_none_or(Vec::is_empty));
        sheet.tool.arguments = Some(arguments(Some(named.unwrap_or(&input))));
    }
    let output = sheet.bag.take("traceloop.entity.output");
    sheet.tool.result = output.map(|output| result_text(&output));
}
