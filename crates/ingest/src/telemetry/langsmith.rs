//! LangSmith's runs: `/runs/multipart`, `/runs/batch`, and runs that were exported.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use understudy_ident::Timestamp;

use super::{
    Decoded, Item, Scope, SpanRecord, TelemetryError, feedback::read_langsmith, multipart::parts,
};

/// Parts are `post.<run>`, `patch.<run>` and `feedback.<id>`, with the larger fields of a run in
/// parts of their own, `post.<run>.outputs`. Attachments are left to the raw body.
pub(crate) fn multipart(body: &[u8], boundary: &str) -> Result<Decoded, TelemetryError> {
    let mut decoded = Decoded::default();
    let mut runs: BTreeMap<(String, String), Map<String, Value>> = BTreeMap::new();
    for (name, bytes) in parts(body, boundary)? {
        let mut steps = name.splitn(3, '.');
        let (kind, id, field) = (steps.next().unwrap_or_default(), steps.next(), steps.next());
        let Some(id) = id.filter(|_| kind != "attachment") else { continue };
        let value: Value = match serde_json::from_slice(bytes) {
            Ok(value) => value,
            Err(why) => {
                decoded.rejected.push(format!("the part `{name}` is not JSON: {why}"));
                continue;
            }
        };
        match (kind, field, value) {
            ("feedback", _, value) => keep_feedback(&mut decoded, &value),
            ("post" | "patch", Some(field), value) => {
                let run = runs.entry((id.to_owned(), kind.to_owned())).or_default();
                run.insert(field.to_owned(), value);
            }
            ("post" | "patch", None, Value::Object(fields)) => {
                runs.entry((id.to_owned(), kind.to_owned())).or_default().extend(fields);
            }
            _ => decoded.rejected.push(format!("the part `{name}` is no run")),
        }
    }
    for ((id, _), mut run) in runs {
        run.insert("id".to_owned(), Value::String(id));
        keep_run(&mut decoded, run);
    }
    Ok(decoded)
}

/// `{"post": […], "patch": […]}`, or an export: a list of runs, or one a line.
pub(crate) fn batch(body: &[u8]) -> Result<Decoded, TelemetryError> {
    let mut decoded = Decoded::default();
    for value in serde_json::Deserializer::from_slice(body).into_iter::<Value>() {
        let value = value.map_err(|why| TelemetryError::Json(why.to_string()))?;
        for run in runs(value) {
            match run {
                Value::Object(run) => keep_run(&mut decoded, run),
                _ => decoded.rejected.push("a run is no JSON object".to_owned()),
            }
        }
    }
    Ok(decoded)
}

fn runs(value: Value) -> Vec<Value> {
    match value {
        Value::Array(runs) => runs,
        Value::Object(mut both) if both.contains_key("post") || both.contains_key("patch") => {
            let lists = ["post", "patch"].into_iter().filter_map(|name| both.remove(name));
            let lists = lists.filter_map(|list| list.as_array().cloned());
            lists.flatten().collect()
        }
        run => vec![run],
    }
}

fn keep_feedback(decoded: &mut Decoded, value: &Value) {
    match read_langsmith(value) {
        Ok(list) => {
            decoded.items.extend(list.into_iter().map(|item| Item::Feedback(Box::new(item))));
        }
        Err(why) => decoded.rejected.push(why),
    }
}

/// A run as a span, its own fields as attributes. A `patch` is the same span, told later.
fn keep_run(decoded: &mut Decoded, mut run: Map<String, Value>) {
    // An export has feedback inside the run it is about.
    if let Some(Value::Array(list)) = run.remove("feedback") {
        for feedback in &list {
            keep_feedback(decoded, feedback);
        }
    }
    let mut text = |name: &str| match run.remove(name) {
        Some(Value::String(text)) if !text.is_empty() => Some(text),
        _ => None,
    };
    let Some(span_id) = text("id") else {
        decoded.rejected.push("a run has no `id`".to_owned());
        return;
    };
    // Without a trace of its own name, the tree is named in the first place of the dotted order.
    let order = text("dotted_order");
    let root = order.as_deref().and_then(|order| order.split('.').next()?.split('Z').nth(1));
    let trace_id = text("trace_id").or_else(|| root.map(str::to_owned));
    let started = text("start_time").as_deref().map(nanoseconds);
    let ended = text("end_time").as_deref().map(nanoseconds);
    let parent = text("parent_run_id");
    let record = SpanRecord {
        trace_id: trace_id.unwrap_or_else(|| span_id.clone()),
        parent,
        name: text("name").unwrap_or_default(),
        scope: Scope { name: "langsmith-runs".to_owned(), ..Scope::default() },
        started_ns: started.unwrap_or(0),
        ended_ns: ended.unwrap_or(0),
        error: text("error"),
        span_id,
        attributes: run.into_iter().filter(|(_, value)| !value.is_null()).collect(),
        ..SpanRecord::default()
    };
    decoded.items.push(Item::Span(Box::new(record)));
}

/// RFC 3339 or, as older clients wrote it, the same without a zone, in UTC.
pub(crate) fn nanoseconds(text: &str) -> u64 {
    let at = text.parse::<Timestamp>().or_else(|_| format!("{text}Z").parse::<Timestamp>());
    at.map_or(0, |at| u64::try_from(at.as_nanosecond()).unwrap_or(0))
}
