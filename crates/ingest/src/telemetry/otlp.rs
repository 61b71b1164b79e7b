//! OTLP over HTTP, traces and logs, in both encodings.
//!
//! Follows the OTLP specification 1.11, and beyond it takes what clients send in spite of it: see
//! [`json`]. Each span and each log record stands or falls alone in both encodings.

mod json;
mod protobuf;

use std::collections::BTreeMap;

use serde_json::Value;

#[cfg(test)]
pub(crate) use protobuf::encode;

pub(crate) use json::{logs_from_json, traces_from_json};
pub(crate) use protobuf::{logs_from_protobuf, traces_from_protobuf};

use super::{Decoded, Item, LogRecord, Scope, SpanRecord};

/// What the records of one scope share.
fn scope(name: &str, version: &str, resource: &BTreeMap<String, Value>) -> Scope {
    let service = resource.get("service.name").and_then(Value::as_str).unwrap_or_default();
    Scope { name: name.to_owned(), version: version.to_owned(), service: service.to_owned() }
}

/// The body of another signal can decode as spans without ids; so can a span that was cut off.
fn check_ids(trace: &str, span: &str) -> Result<(), String> {
    let is_id = |id: &str, length| id.len() == length && id.bytes().any(|byte| byte != b'0');
    if !is_id(trace, 32) {
        return Err("a trace id has to be 16 bytes, not all zero".to_owned());
    }
    if !is_id(span, 16) {
        return Err("a span id has to be 8 bytes, not all zero".to_owned());
    }
    Ok(())
}

fn keep_span(decoded: &mut Decoded, span: Result<SpanRecord, String>) {
    let checked = span.and_then(|span| check_ids(&span.trace_id, &span.span_id).map(|()| span));
    match checked {
        Ok(span) => decoded.items.push(Item::Span(Box::new(span))),
        Err(why) => decoded.rejected.push(why),
    }
}

/// A log event may belong to no span, but then it has to say something.
fn keep_log(decoded: &mut Decoded, log: Result<LogRecord, String>) {
    let checked = log.and_then(|log| {
        if log.trace_id.is_empty() && log.span_id.is_empty() {
            return Ok(log);
        }
        check_ids(&log.trace_id, &log.span_id).map(|()| log)
    });
    match checked {
        Ok(log) => decoded.items.push(Item::Log(Box::new(log))),
        Err(why) => decoded.rejected.push(why),
    }
}

/// Log records of before `event_name` was a field name their event in an attribute.
fn event_name(field: String, attributes: &mut BTreeMap<String, Value>) -> String {
    if !field.is_empty() {
        return field;
    }
    match attributes.remove("event.name") {
        Some(Value::String(name)) => name,
        Some(other) => {
            attributes.insert("event.name".to_owned(), other);
            field
        }
        None => field,
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
