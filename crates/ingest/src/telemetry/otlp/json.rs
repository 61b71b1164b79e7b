//! The JSON encoding, as clients really send it.
//!
//! Against the letter of the specification, ids may be base64 (what protobuf's own JSON mapping
//! writes), enums may be names, field names may be snake_case, any field may be missing or null, and
//! numbers may be text. Numbers that JSON cannot hold (`"NaN"`, `"Infinity"`) become null. A request
//! that is no JSON to the letter is taken apart by [`salvage`].

mod salvage;

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Map, Value};

use super::{event_name, hex, keep_log, keep_span, scope};
use crate::telemetry::{Decoded, Event, LogRecord, Scope, SpanRecord, TelemetryError};

pub(crate) fn traces_from_json(body: &[u8]) -> Result<Decoded, TelemetryError> {
    let mut decoded = Decoded::default();
    let names = Names { resources: "resourceSpans", scopes: "scopeSpans", records: "spans" };
    each_record(body, names, &mut decoded, |record, scope, decoded| {
        let span = read_span(record, scope, &mut decoded.repaired);
        keep_span(decoded, span);
    })?;
    Ok(decoded)
}

pub(crate) fn logs_from_json(body: &[u8]) -> Result<Decoded, TelemetryError> {
    let mut decoded = Decoded::default();
    let names = Names { resources: "resourceLogs", scopes: "scopeLogs", records: "logRecords" };
    each_record(body, names, &mut decoded, |record, scope, decoded| {
        let log = read_log(record, scope, &mut decoded.repaired);
        keep_log(decoded, log);
    })?;
    Ok(decoded)
}

#[derive(Clone, Copy)]
struct Names {
    resources: &'static str,
    scopes: &'static str,
    records: &'static str,
}

fn each_record(
    body: &[u8],
    names: Names,
    decoded: &mut Decoded,
    mut read: impl FnMut(&Map<String, Value>, &Scope, &mut Decoded),
) -> Result<(), TelemetryError> {
    let body = parse(body, names, decoded)?;
    let Some(body) = body.as_object() else {
        let wanted = "an object with `resourceSpans` or `resourceLogs`";
        return Err(TelemetryError::Shape { expected: "an OTLP request", wanted });
    };
    for group in list(body, names.resources) {
        let resource = field(group, "resource").and_then(Value::as_object);
        let resource = resource
            .map(|resource| attributes(resource, &mut decoded.repaired))
            .unwrap_or_default();
        for records in list(group, names.scopes) {
            let library = field(records, "scope").and_then(Value::as_object);
            let part = |name| library.and_then(|library| text(library, name)).unwrap_or_default();
            let scope = scope(part("name"), part("version"), &resource);
            let Some(Value::Array(records)) = field(records, names.records) else { continue };
            for record in records {
                match record.as_object() {
                    Some(record) => read(record, &scope, decoded),
                    None => decoded.rejected.push("a record is no JSON object".to_owned()),
                }
            }
        }
    }
    Ok(())
}

/// Strictly first, because nearly every request is right and that is fast.
fn parse(body: &[u8], names: Names, decoded: &mut Decoded) -> Result<Value, TelemetryError> {
    serde_json::from_slice(body).or_else(|why| {
        let lists = [names.resources, names.scopes, names.records];
        salvage::request(body, &lists, decoded).ok_or_else(|| TelemetryError::Json(why.to_string()))
    })
}

fn read_span(
    span: &Map<String, Value>,
    scope: &Scope,
    repaired: &mut usize,
) -> Result<SpanRecord, String> {
    let events = list(span, "events").map(|event| Event {
        name: text(event, "name").unwrap_or_default().to_owned(),
        at_ns: nanoseconds(event, "timeUnixNano"),
        attributes: attributes(event, repaired),
        dropped_attributes: count(event, "droppedAttributesCount"),
    });
    let events = events.collect();
    let links = list(span, "links").map(|link| Ok((id(link, "traceId")?, id(link, "spanId")?)));
    let status = field(span, "status").and_then(Value::as_object);
    let is_error = status.and_then(|status| field(status, "code")).is_some_and(|code| {
        code.as_str()
            .map_or(code.as_u64() == Some(2), |name| name == "STATUS_CODE_ERROR" || name == "2")
    });
    let message = status.and_then(|status| text(status, "message")).unwrap_or_default();
    let parent = id(span, "parentSpanId")?;
    Ok(SpanRecord {
        trace_id: id(span, "traceId")?,
        span_id: id(span, "spanId")?,
        parent: Some(parent).filter(|id| id.bytes().any(|byte| byte != b'0')),
        trace_state: text(span, "traceState").unwrap_or_default().to_owned(),
        name: text(span, "name").unwrap_or_default().to_owned(),
        scope: scope.clone(),
        started_ns: nanoseconds(span, "startTimeUnixNano"),
        ended_ns: nanoseconds(span, "endTimeUnixNano"),
        error: is_error.then(|| message.to_owned()),
        events,
        links: links.collect::<Result<_, String>>()?,
        attributes: attributes(span, repaired),
        dropped_attributes: count(span, "droppedAttributesCount"),
        dropped_events: count(span, "droppedEventsCount"),
    })
}

fn read_log(
    log: &Map<String, Value>,
    scope: &Scope,
    repaired: &mut usize,
) -> Result<LogRecord, String> {
    let mut attributes = attributes(log, repaired);
    let at = nanoseconds(log, "timeUnixNano");
    let name = text(log, "eventName").unwrap_or_default().to_owned();
    Ok(LogRecord {
        trace_id: id(log, "traceId")?,
        span_id: id(log, "spanId")?,
        name: event_name(name, &mut attributes),
        scope: scope.clone(),
        at_ns: if at > 0 { at } else { nanoseconds(log, "observedTimeUnixNano") },
        body: field(log, "body").map_or(Value::Null, |body| any_value(body, repaired)),
        attributes,
        dropped_attributes: count(log, "droppedAttributesCount"),
    })
}

/// A field under its own name or as protobuf spells it.
fn field<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let found = object.get(name).or_else(|| object.get(&snake_case(name)));
    found.filter(|value| !value.is_null())
}

fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

fn text<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    field(object, name).and_then(Value::as_str)
}

/// The objects of a list; anything else in it is passed over.
fn list<'a>(
    object: &'a Map<String, Value>,
    name: &str,
) -> impl Iterator<Item = &'a Map<String, Value>> {
    let items = field(object, name).and_then(Value::as_array);
    items.into_iter().flatten().filter_map(Value::as_object)
}

/// An id in hexadecimal, whatever it came in; empty when there is none.
fn id(object: &Map<String, Value>, name: &str) -> Result<String, String> {
    let Some(value) = field(object, name) else { return Ok(String::new()) };
    let text = value.as_str().ok_or_else(|| format!("`{name}` is not text"))?;
    let is_hex = matches!(text.len(), 0 | 16 | 32) && text.bytes().all(|c| c.is_ascii_hexdigit());
    if is_hex {
        return Ok(text.to_ascii_lowercase());
    }
    let bytes = BASE64_STANDARD
        .decode(text)
        .map_err(|_| format!("`{name}` is neither hexadecimal nor base64"))?;
    Ok(hex(&bytes))
}

/// Nanoseconds since 1970 as a number or as text; JavaScript sends fractions of large numbers.
fn nanoseconds(object: &Map<String, Value>, name: &str) -> u64 {
    match field(object, name) {
        Some(Value::String(text)) => {
            text.parse().unwrap_or_else(|_| text.parse::<f64>().map_or(0, |ns| ns as u64))
        }
        Some(Value::Number(number)) => {
            number.as_u64().or_else(|| number.as_f64().map(|ns| ns as u64)).unwrap_or(0)
        }
        _ => 0,
    }
}

fn count(object: &Map<String, Value>, name: &str) -> u32 {
    let count = match field(object, name) {
        Some(Value::String(text)) => text.parse().ok(),
        Some(value) => value.as_u64(),
        None => None,
    };
    count.map_or(0, |count| u32::try_from(count).unwrap_or(u32::MAX))
}

/// The attributes of an object: pairs of key and value, or, from hand-written clients, a map.
fn attributes(object: &Map<String, Value>, repaired: &mut usize) -> BTreeMap<String, Value> {
    match field(object, "attributes") {
        Some(Value::Array(pairs)) => key_values(pairs, repaired).collect(),
        Some(Value::Object(map)) => {
            *repaired += 1;
            map.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
        }
        _ => BTreeMap::new(),
    }
}

fn key_values(pairs: &[Value], repaired: &mut usize) -> impl Iterator<Item = (String, Value)> {
    pairs.iter().filter_map(Value::as_object).filter_map(|pair| {
        let key = text(pair, "key")?.to_owned();
        Some((key, field(pair, "value").map_or(Value::Null, |value| any_value(value, repaired))))
    })
}

/// `{"stringValue": …}` and its kin; an empty one is how clients spell null.
fn any_value(value: &Value, repaired: &mut usize) -> Value {
    let Some(object) = value.as_object() else {
        *repaired += 1;
        return value.clone();
    };
    let Some((kind, held)) = object.iter().next() else { return Value::Null };
    match (kind.as_str(), held) {
        (_, Value::Null) => Value::Null,
        ("intValue" | "int_value", Value::String(text)) => int(text, repaired),
        ("doubleValue" | "double_value", Value::String(text)) => {
            let number = text.parse().ok().and_then(serde_json::Number::from_f64);
            *repaired += usize::from(number.is_none());
            number.map_or(Value::Null, Value::Number)
        }
        ("arrayValue" | "array_value", Value::Object(list)) => {
            let Some(Value::Array(values)) = field(list, "values") else {
                return Value::Array(Vec::new());
            };
            values.iter().map(|value| any_value(value, repaired)).collect()
        }
        ("kvlistValue" | "kvlist_value", Value::Object(list)) => {
            let Some(Value::Array(pairs)) = field(list, "values") else {
                return Value::Object(Map::new());
            };
            key_values(pairs, repaired).collect()
        }
        _ => held.clone(),
    }
}

/// An integer as text; one that is none, or too large, stays the text it is.
fn int(text: &str, repaired: &mut usize) -> Value {
    if let Ok(number) = text.parse::<i64>() {
        return Value::from(number);
    }
    *repaired += 1;
    Value::String(text.to_owned())
}
