//! What the OpenAI Agents SDK posts: `{"data": [trace, trace.span, …]}`.

use serde_json::{Map, Value};

use super::{Decoded, Item, Scope, SpanRecord, TelemetryError, langsmith::nanoseconds};

pub(crate) fn export(body: &[u8]) -> Result<Decoded, TelemetryError> {
    let body: Value =
        serde_json::from_slice(body).map_err(|why| TelemetryError::Json(why.to_string()))?;
    let Some(Value::Array(data)) = body.get("data") else {
        let expected = "an export of agent traces";
        return Err(TelemetryError::Shape { expected, wanted: "an object with a list `data`" });
    };
    let mut decoded = Decoded::default();
    for value in data {
        let span = value.as_object().ok_or_else(|| "an item is no JSON object".to_owned());
        match span.and_then(read) {
            Ok(span) => decoded.items.push(Item::Span(Box::new(span))),
            Err(why) => decoded.rejected.push(why),
        }
    }
    Ok(decoded)
}

/// A trace becomes the span that its parentless spans are in: it alone names the conversation.
fn read(item: &Map<String, Value>) -> Result<SpanRecord, String> {
    let text = |name: &str| {
        let found = item.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        found.map(str::to_owned)
    };
    let id = text("id").ok_or("an item has no `id`")?;
    let scope = Scope { name: "openai-agents-export".to_owned(), ..Scope::default() };
    if item.get("object").and_then(Value::as_str) == Some("trace") {
        let mut attributes = item.clone();
        attributes
            .retain(|name, value| !["id", "object"].contains(&name.as_str()) && !value.is_null());
        attributes.insert("type".to_owned(), Value::from("trace"));
        let name = text("workflow_name").unwrap_or_default();
        let attributes = attributes.into_iter().collect();
        return Ok(SpanRecord {
            trace_id: id.clone(),
            span_id: id,
            name,
            scope,
            attributes,
            ..SpanRecord::default()
        });
    }
    let trace_id = text("trace_id").ok_or("a span has no `trace_id`")?;
    let data = item.get("span_data").and_then(Value::as_object).cloned().unwrap_or_default();
    let kind = data.get("type").and_then(Value::as_str).unwrap_or_default();
    let name = data.get("name").and_then(Value::as_str).unwrap_or(kind).to_owned();
    let time = |name: &str| text(name).map_or(0, |at| nanoseconds(&at));
    let error = item.get("error").filter(|error| !error.is_null());
    Ok(SpanRecord {
        parent: text("parent_id").or_else(|| Some(trace_id.clone())),
        trace_id,
        span_id: id,
        name,
        scope,
        started_ns: time("started_at"),
        ended_ns: time("ended_at"),
        error: error.map(|error| match error.get("message").and_then(Value::as_str) {
            Some(message) => message.to_owned(),
            None => error.to_string(),
        }),
        attributes: data.into_iter().filter(|(_, value)| !value.is_null()).collect(),
        ..SpanRecord::default()
    })
}
