//! Langfuse's SDK over OTLP: one JSON text for the input and one for the output.

use serde_json::Value;
use understudy_message::Role;
use understudy_trajectory::FrameRole;

use super::{Kind, Sheet};
use crate::telemetry::messages::{arguments, result_text};

pub(crate) fn fill(sheet: &mut Sheet) {
    let kind = sheet.bag.text("langfuse.observation.type");
    sheet.kind = kind.as_deref().map(|kind| match kind {
        "generation" => Kind::Model,
        "tool" => Kind::Tool,
        "retriever" => Kind::Retrieval,
        "agent" => Kind::Frame(FrameRole::Agent),
        "chain" => Kind::Frame(FrameRole::Chain),
        "embedding" => Kind::Frame(FrameRole::Embedding),
        "evaluator" => Kind::Frame(FrameRole::Evaluator),
        "guardrail" => Kind::Frame(FrameRole::Guardrail),
        _ => Kind::Frame(FrameRole::Other),
    });
    sheet.session = sheet.bag.first_text(&["session.id", "langfuse.session.id"]);
    sheet.subject = sheet.bag.first_text(&["user.id", "langfuse.user.id"]);
    match sheet.kind {
        Some(Kind::Model) => model(sheet),
        Some(Kind::Tool) => {
            let input = sheet.bag.take("langfuse.observation.input");
            sheet.tool.arguments = input.map(|input| arguments(Some(&input)));
            let output = sheet.bag.take("langfuse.observation.output");
            sheet.tool.result = output.map(|output| result_text(&output));
        }
        Some(Kind::Retrieval) => {
            sheet.retrieval.query = sheet.bag.text("langfuse.observation.input");
        }
        Some(Kind::Frame(_)) | None => {}
    }
}

fn model(sheet: &mut Sheet) {
    sheet.said.call.responded = sheet.bag.text("langfuse.observation.model.name");
    // `Infinity` in text is how the SDK says that there is no limit.
    if let Some(Value::Object(mut params)) = sheet.bag.json("langfuse.observation.model.parameters")
    {
        params.retain(|_, value| value != "Infinity");
        sheet.params(&Value::Object(params));
    }
    if let Some(usage) = sheet.bag.json("langfuse.observation.usage_details") {
        sheet.usage(&usage);
    }
    if let Some(input) = sheet.bag.json("langfuse.observation.input") {
        if let Some(tools) = input.get("tools").and_then(Value::as_array) {
            sheet.tools(tools.iter().cloned());
        }
        sheet.said.input = sheet.reader.read(&input, Role::User);
    }
    if let Some(output) = sheet.bag.json("langfuse.observation.output") {
        sheet.output(&output);
    }
}
