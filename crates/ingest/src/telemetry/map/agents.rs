//! The OpenAI Agents SDK's own spans. Its model spans name the response and nothing of its content,
//! which has to be found by that name where the answer was served.

use serde_json::Value;
use understudy_message::Role;
use understudy_trajectory::FrameRole;

use super::{Kind, Sheet};
use crate::telemetry::messages::{arguments, result_text};

pub(crate) fn fill(sheet: &mut Sheet) {
    let kind = sheet.bag.text("type");
    sheet.kind = kind.as_deref().map(|kind| match kind {
        "response" | "generation" => Kind::Model,
        "function" => Kind::Tool,
        "agent" => Kind::Frame(FrameRole::Agent),
        "handoff" => Kind::Frame(FrameRole::Handoff),
        "guardrail" => Kind::Frame(FrameRole::Guardrail),
        "trace" => Kind::Frame(FrameRole::Workflow),
        "custom" if is_turn(sheet) => Kind::Frame(FrameRole::Turn),
        _ => Kind::Frame(FrameRole::Other),
    });
    sheet.session = sheet.bag.text("group_id");
    sheet.workflow = sheet.bag.text("workflow_name");
    let metadata = sheet.bag.peek("metadata");
    let user = metadata.and_then(|m| m.get("user_id").or_else(|| m.get("user"))?.as_str());
    sheet.subject = user.map(str::to_owned);
    match sheet.kind {
        Some(Kind::Model) => model(sheet),
        Some(Kind::Tool) => {
            sheet.tool.name = sheet.bag.text("name").unwrap_or_default();
            sheet.tool.arguments = sheet.bag.take("input").map(|input| arguments(Some(&input)));
            sheet.tool.result = sheet.bag.take("output").map(|output| result_text(&output));
        }
        Some(Kind::Frame(FrameRole::Agent)) => sheet.agent = sheet.bag.text("name"),
        Some(Kind::Retrieval | Kind::Frame(_)) | None => {}
    }
}

fn model(sheet: &mut Sheet) {
    sheet.said.call.response_id = sheet.bag.text("response_id");
    sheet.said.call.requested = sheet.bag.text("model");
    if let Some(params) = sheet.bag.take("model_config") {
        sheet.params(&params);
    }
    if let Some(usage) = sheet.bag.take("usage") {
        sheet.usage(&usage);
    }
    // Only `generation` spans, which chat completions make, have these.
    if let Some(input) = sheet.bag.json("input") {
        sheet.said.input = sheet.reader.read(&input, Role::User);
    }
    if let Some(output) = sheet.bag.json("output") {
        sheet.output(&output);
    }
}

fn is_turn(sheet: &Sheet) -> bool {
    let data = sheet.bag.peek("data");
    data.and_then(|data| data.get("sdk_span_type")).and_then(Value::as_str) == Some("turn")
}
