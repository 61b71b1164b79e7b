//! LangSmith's runs, as it posts them and as its client writes them into OTLP.

use serde_json::Value;
use understudy_message::Role;
use understudy_trajectory::FrameRole;

use super::{Kind, Sheet, genai::framed_result};
use crate::telemetry::messages::arguments;

pub(crate) fn fill_otel(sheet: &mut Sheet) {
    let kind = sheet.bag.text("langsmith.span.kind");
    sheet.kind = kind.as_deref().map(kind_named);
    let metadata = |name: &str| format!("langsmith.metadata.{name}");
    let sessions = ["session_id", "thread_id", "conversation_id"].map(metadata);
    sheet.session = sessions.iter().find_map(|name| sheet.bag.text(name));
    sheet.subject = sheet.bag.text(&metadata("user_id"));
    sheet.said.call.provider = sheet.bag.text(&metadata("ls_provider"));
    match sheet.kind {
        Some(Kind::Model) => {
            let input = sheet.bag.json("gen_ai.prompt");
            let output = sheet.bag.json("gen_ai.completion");
            model(sheet, input.as_ref(), output.as_ref());
            if let Some(usage) = sheet.bag.json(&metadata("usage_metadata")) {
                sheet.usage(&usage);
            }
        }
        Some(Kind::Tool) => {
            let input = sheet.bag.json("gen_ai.prompt");
            let output = sheet.bag.json("gen_ai.completion");
            tool(sheet, input.as_ref(), output.as_ref());
        }
        Some(Kind::Retrieval | Kind::Frame(_)) | None => {}
    }
}

pub(crate) fn fill_run(sheet: &mut Sheet) {
    let kind = sheet.bag.text("run_type");
    sheet.kind = kind.as_deref().map(kind_named);
    let extra = sheet.bag.peek("extra").cloned().unwrap_or_default();
    let told = |names: &[&str]| {
        let metadata = extra.get("metadata")?;
        names.iter().find_map(|name| metadata.get(name)?.as_str()).map(str::to_owned)
    };
    sheet.session = told(&["session_id", "thread_id", "conversation_id"]);
    sheet.subject = told(&["user_id"]);
    sheet.said.call.provider = told(&["ls_provider"]);
    match sheet.kind {
        Some(Kind::Model) => {
            if let Some(params) = extra.get("invocation_params") {
                sheet.params(params);
            }
            let (input, output) = (sheet.bag.take("inputs"), sheet.bag.take("outputs"));
            model(sheet, input.as_ref(), output.as_ref());
        }
        Some(Kind::Tool) => {
            let call_id = extra.get("tool_call_id").and_then(Value::as_str);
            sheet.tool.call_id = call_id.map(str::to_owned);
            let (input, output) = (sheet.bag.take("inputs"), sheet.bag.take("outputs"));
            tool(sheet, input.as_ref(), output.as_ref());
        }
        Some(Kind::Retrieval) => {
            let (input, output) = (sheet.bag.take("inputs"), sheet.bag.take("outputs"));
            let query = input.as_ref().and_then(|input| input.get("query")?.as_str());
            sheet.retrieval.query = query.map(str::to_owned);
            let documents = output.and_then(|output| output.get("documents")?.as_array().cloned());
            sheet.retrieval.documents = documents.unwrap_or_default();
        }
        Some(Kind::Frame(_)) | None => {}
    }
}

fn kind_named(kind: &str) -> Kind {
    match kind {
        "llm" => Kind::Model,
        "tool" => Kind::Tool,
        "retriever" => Kind::Retrieval,
        "embedding" => Kind::Frame(FrameRole::Embedding),
        "chain" => Kind::Frame(FrameRole::Chain),
        _ => Kind::Frame(FrameRole::Other),
    }
}

fn model(sheet: &mut Sheet, input: Option<&Value>, output: Option<&Value>) {
    if let Some(input) = input {
        sheet.said.input = sheet.reader.read(input, Role::User);
    }
    if let Some(output) = output {
        sheet.output(output);
    }
}

fn tool(sheet: &mut Sheet, input: Option<&Value>, output: Option<&Value>) {
    sheet.tool.name.clone_from(&sheet.name);
    let input = input.map(|input| input.get("input").unwrap_or(input));
    sheet.tool.arguments = input.map(|input| arguments(Some(input)));
    let id = output.and_then(|output| output.pointer("/output/tool_call_id")?.as_str());
    sheet.tool.call_id = sheet.tool.call_id.take().or(id.map(str::to_owned));
    sheet.tool.result = output.map(framed_result);
}
