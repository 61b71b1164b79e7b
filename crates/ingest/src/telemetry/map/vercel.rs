//! The Vercel AI SDK's `experimental_telemetry`.

use serde_json::Value;
use understudy_message::{Message, Role};
use understudy_trajectory::FrameRole;

use super::{Kind, Sheet, finish_named};
use crate::telemetry::messages::{arguments, result_text, tool_call};

pub(crate) fn fill(sheet: &mut Sheet) {
    let operation = sheet.bag.text("ai.operationId").unwrap_or_default();
    sheet.kind = Some(match operation.as_str() {
        "ai.toolCall" => Kind::Tool,
        // The call itself; the span without the suffix is the loop around one or more of them.
        name if name.ends_with(".doGenerate") || name.ends_with(".doStream") => Kind::Model,
        name if name.starts_with("ai.embed") => Kind::Frame(FrameRole::Embedding),
        _ => Kind::Frame(FrameRole::Agent),
    });
    let metadata = |name: &str| format!("ai.telemetry.metadata.{name}");
    let sessions = ["sessionId", "session_id", "threadId", "chatId"].map(metadata);
    sheet.session = sessions.iter().find_map(|name| sheet.bag.text(name));
    let users = ["userId", "user_id"].map(metadata);
    sheet.subject = users.iter().find_map(|name| sheet.bag.text(name));
    sheet.workflow = sheet.bag.text("ai.telemetry.functionId");
    match sheet.kind {
        Some(Kind::Model) => model(sheet),
        Some(Kind::Tool) => {
            sheet.tool.name = sheet.bag.text("ai.toolCall.name").unwrap_or_default();
            sheet.tool.call_id = sheet.bag.text("ai.toolCall.id");
            let given = sheet.bag.take("ai.toolCall.args");
            sheet.tool.arguments = given.map(|given| arguments(Some(&given)));
            let result = sheet.bag.take("ai.toolCall.result");
            sheet.tool.result = result.map(|result| result_text(&result));
        }
        Some(Kind::Retrieval | Kind::Frame(_)) | None => {}
    }
}

fn model(sheet: &mut Sheet) {
    let call = &mut sheet.said.call;
    call.provider = sheet.bag.text("ai.model.provider");
    call.requested = sheet.bag.text("ai.model.id");
    call.responded = sheet.bag.text("ai.response.model");
    call.response_id = sheet.bag.text("ai.response.id");
    call.finish = sheet.bag.text("ai.response.finishReason").as_deref().and_then(finish_named);
    call.usage.input = sheet.bag.count(&["ai.usage.inputTokens", "ai.usage.promptTokens"]);
    call.usage.output = sheet.bag.count(&["ai.usage.outputTokens", "ai.usage.completionTokens"]);
    call.usage.reasoning = sheet.bag.count(&["ai.usage.reasoningTokens"]);
    call.usage.cache_read = sheet.bag.count(&["ai.usage.cachedInputTokens"]);
    let milliseconds = sheet.bag.take("ai.response.msToFirstChunk").and_then(|ms| ms.as_f64());
    call.first_token_ns = milliseconds.map(|ms| (ms * 1e6) as u64);
    // Each definition is a JSON text of its own.
    if let Some(Value::Array(tools)) = sheet.bag.take("ai.prompt.tools") {
        let parsed = tools.into_iter().filter_map(|tool| match tool {
            Value::String(text) => serde_json::from_str(&text).ok(),
            other => Some(other),
        });
        sheet.tools(parsed);
    }
    if let Some(prompt) = sheet.bag.json("ai.prompt.messages") {
        sheet.said.input = sheet.reader.read(&prompt, Role::User);
    }
    let mut reply = Message::assistant(sheet.bag.text("ai.response.text").unwrap_or_default());
    if let Some(Value::Array(calls)) = sheet.bag.json("ai.response.toolCalls") {
        reply.tool_calls = calls.iter().filter_map(tool_call).collect();
    }
    if !reply.content.parts().is_empty() || !reply.tool_calls.is_empty() {
        sheet.said.output = vec![reply];
    }
}
