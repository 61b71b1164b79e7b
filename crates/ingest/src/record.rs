//! Examples and written-out records into steps and outcomes with stable ids.

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::Value;
use understudy_ident::{Digest, OutcomeId, StepId, TaskName, Timestamp, TrajectoryId};
use understudy_inference::{FinishReason, Served, Timing, Usage};
use understudy_manifest::canonical_json;
use understudy_trajectory::{Outcome, Source, Step, Target};

use crate::{Row, example::Example};

/// What one row adds.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) step: Option<Step>,
    pub(crate) outcome: Option<Outcome>,
}

/// The ids follow from what was said, not from the spelling of the row: a file read again through
/// a corrected mapping gives new steps, and one with its keys in another order gives none.
pub(crate) fn record_example(example: Example, task: &TaskName, at: Timestamp) -> Record {
    let Example { prompt, reply, tools, signal } = example;
    let mut parts = vec![task.to_string(), canonical_json(&(&prompt, &reply))];
    if !tools.is_empty() {
        parts.push(canonical_json(&tools));
    }
    let name = Digest::of_parts(parts.iter().map(String::as_bytes)).to_hex();
    let id = StepId::derived(&name);
    let outcome = Outcome {
        id: OutcomeId::derived(&format!("{name} {}", canonical_json(&signal))),
        target: Target::Step(id.as_str().to_owned()),
        signal,
        source: Source::Automated,
        at,
        note: None,
        details: None,
    };
    let finish_reason =
        if reply.tool_calls.is_empty() { FinishReason::Stop } else { FinishReason::ToolCalls };
    let step = Step {
        id,
        trajectory: TrajectoryId::derived(&name),
        task: task.clone(),
        session: None,
        subject: None,
        metadata: BTreeMap::new(),
        response_id: format!("import-{}", &name[..32]),
        at,
        prompt,
        tools,
        reply,
        finish_reason,
        assignment: None,
        served: Served { base: "imported".to_owned(), adapter: None },
        usage: Usage::default(),
        timing: Timing::default(),
        tokens: None,
        error: None,
    };
    Record { step: Some(step), outcome: Some(outcome) }
}

/// Our own lines are taken as they are, ids and times included.
pub(crate) fn record_understudy(
    mut row: Row,
    task: &TaskName,
    media: &mut BTreeMap<Digest, Vec<u8>>,
) -> Result<Record, String> {
    match (row.remove("step"), row.remove("outcome"), row.keys().next()) {
        (Some(mut step), None, None) => {
            take_media(&mut step, media)?;
            Ok(Record { step: Some(own_step(step, task)?), outcome: None })
        }
        (None, Some(outcome), None) => {
            let outcome = serde_json::from_value(outcome)
                .map_err(|why| format!("`outcome` is not an outcome: {why}"))?;
            Ok(Record { step: None, outcome: Some(outcome) })
        }
        _ => Err("expected one field, either `step` or `outcome`".to_owned()),
    }
}

/// Takes out the bytes that were written beside the digests of media, so that the step is what it
/// was where it was recorded.
fn take_media(value: &mut Value, media: &mut BTreeMap<Digest, Vec<u8>>) -> Result<(), String> {
    match value {
        Value::Array(items) => items.iter_mut().try_for_each(|item| take_media(item, media)),
        Value::Object(fields) => {
            if fields.get("type").is_some_and(|kind| kind == "media")
                && let (Some(Value::String(data)), Some(Value::String(digest))) =
                    (fields.get("data"), fields.get("digest"))
            {
                let bytes = BASE64_STANDARD
                    .decode(data)
                    .map_err(|why| format!("the bytes of media `{digest}` are no base64: {why}"))?;
                let found = Digest::of(&bytes);
                if found.to_string() != *digest {
                    return Err(format!("the bytes of media `{digest}` are those of `{found}`"));
                }
                fields.remove("data");
                media.insert(found, bytes);
            }
            fields.values_mut().try_for_each(|field| take_media(field, media))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

fn own_step(value: Value, task: &TaskName) -> Result<Step, String> {
    let step: Step =
        serde_json::from_value(value).map_err(|why| format!("`step` is not a step: {why}"))?;
    if step.task != *task {
        return Err(format!("a step of task `{}`, not of `{task}`", step.task));
    }
    Ok(step)
}
