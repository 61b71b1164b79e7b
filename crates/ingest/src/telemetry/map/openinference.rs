//! OpenInference: flattened messages, and the whole request and answer as JSON beside them.

use serde_json::Value;
use understudy_message::Role;
use understudy_trajectory::FrameRole;

use super::{Kind, Sheet, finish_named, genai::framed_result};
use crate::telemetry::messages::arguments;

pub(crate) fn fill(sheet: &mut Sheet) {
    let kind = sheet.bag.text("openinference.span.kind");
    sheet.kind = kind.as_deref().map(|kind| match kind {
        "LLM" => Kind::Model,
        "TOOL" => Kind::Tool,
        "RETRIEVER" => Kind::Retrieval,
        "AGENT" => Kind::Frame(FrameRole::Agent),
        "CHAIN" => Kind::Frame(FrameRole::Chain),
        "EMBEDDING" => Kind::Frame(FrameRole::Embedding),
        "RERANKER" => Kind::Frame(FrameRole::Rerank),
        "GUARDRAIL" => Kind::Frame(FrameRole::Guardrail),
        "EVALUATOR" => Kind::Frame(FrameRole::Evaluator),
        _ => Kind::Frame(FrameRole::Other),
    });
    identity(sheet);
    match sheet.kind {
        Some(Kind::Model) => model(sheet),
        Some(Kind::Tool) => tool(sheet),
        Some(Kind::Retrieval) => {
            sheet.retrieval.query = sheet.bag.text("input.value");
            let documents = sheet.bag.list("retrieval.documents");
            sheet.retrieval.documents = documents
                .into_iter()
                .map(|mut item| item.get_mut("document").map_or(Value::Null, Value::take))
                .collect();
        }
        Some(Kind::Frame(_)) | None => {}
    }
    sheet.bag.discard(&["input.mime_type", "output.mime_type"]);
}

fn identity(sheet: &mut Sheet) {
    sheet.session = sheet.bag.text("session.id");
    sheet.subject = sheet.bag.text("user.id");
    sheet.agent = sheet.bag.text("agent.name");
    // LangChain's own names are in the metadata, which stays: most of it is read by nobody.
    let metadata = sheet.bag.peek("metadata").and_then(Value::as_str);
    let metadata: Option<Value> = metadata.and_then(|text| serde_json::from_str(text).ok());
    let told = |names: &[&str]| {
        let metadata = metadata.as_ref()?;
        names.iter().find_map(|name| metadata.get(name)?.as_str()).map(str::to_owned)
    };
    if sheet.session.is_none() {
        sheet.session = told(&["session_id", "thread_id", "conversation_id"]);
    }
    if sheet.subject.is_none() {
        sheet.subject = told(&["user_id"]);
    }
}

fn model(sheet: &mut Sheet) {
    let tools = sheet.bag.list("llm.tools");
    let tools = tools.iter().filter_map(|tool| {
        let schema = tool.pointer("/tool/json_schema")?;
        schema.as_str().map_or(Some(schema.clone()), |text| serde_json::from_str(text).ok())
    });
    sheet.tools(tools);
    let call = &mut sheet.said.call;
    call.provider = sheet.bag.first_text(&["llm.provider", "llm.system"]);
    sheet.bag.discard(&["llm.system"]);
    call.requested = sheet.bag.text("llm.request.model_name");
    call.responded = sheet.bag.first_text(&["llm.response.model_name", "llm.model_name"]);
    let usage = &mut call.usage;
    usage.input = sheet.bag.count(&["llm.token_count.prompt"]);
    usage.output = sheet.bag.count(&["llm.token_count.completion"]);
    usage.cache_read = sheet.bag.count(&["llm.token_count.prompt_details.cache_read"]);
    usage.cache_write = sheet.bag.count(&["llm.token_count.prompt_details.cache_write"]);
    usage.reasoning = sheet.bag.count(&["llm.token_count.completion_details.reasoning"]);
    let finish = sheet.bag.text("llm.finish_reason");
    if let Some(params) = sheet.bag.json("llm.invocation_parameters") {
        // The Agents instrumentation puts the answer's fields here, its model among them.
        let answered = params.get("id").is_some();
        sheet.params(&params);
        if answered {
            sheet.said.call.requested = None;
        }
    }
    let input = sheet.bag.list("llm.input_messages");
    sheet.said.input = input.iter().flat_map(|m| sheet.reader.read(m, Role::User)).collect();
    let output = sheet.bag.list("llm.output_messages");
    sheet.said.output = output.iter().flat_map(|m| sheet.reader.read(m, Role::Assistant)).collect();
    // The answer as JSON has the response id, which the attributes have nowhere.
    if let Some(answer) = sheet.bag.json("output.value") {
        sheet.output(&answer);
    }
    if let Some(question) = sheet.bag.json("input.value")
        && sheet.said.input.is_empty()
    {
        sheet.said.input = sheet.reader.read(&question, Role::User);
    }
    // It says `stop` on a turn that calls tools when the answer came from the responses API.
    let calls_tools = sheet.said.output.iter().any(|message| !message.tool_calls.is_empty());
    let finish = if calls_tools { Some("tool_calls".to_owned()) } else { finish };
    sheet.said.call.finish =
        finish.as_deref().and_then(finish_named).or(sheet.said.call.finish.take());
}

fn tool(sheet: &mut Sheet) {
    sheet.tool.name = sheet.bag.text("tool.name").unwrap_or_default();
    sheet.tool.call_id = sheet.bag.first_text(&["tool_call.id", "tool.id"]);
    sheet.tool.arguments = sheet.bag.take("input.value").map(|given| arguments(Some(&given)));
    let result = sheet.bag.json("output.value");
    if let Some(result) = &result {
        let id = ["/data/tool_call_id", "/kwargs/tool_call_id", "/tool_call_id"];
        let found = id.iter().find_map(|place| result.pointer(place).and_then(Value::as_str));
        sheet.tool.call_id = sheet.tool.call_id.take().or(found.map(str::to_owned));
    }
    sheet.tool.result = result.as_ref().map(framed_result);
}
