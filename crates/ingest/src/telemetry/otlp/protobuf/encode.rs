//! Records back into protobuf, for tests: what a client would have sent.

use prost::Message;
use serde_json::Value;

use super::wire;
use crate::telemetry::Item;

/// One request with these spans, or with these log records; the other kind is left out.
pub(crate) fn request(items: &[Item], logs: bool) -> Vec<u8> {
    let resources = items.iter().filter_map(|item| match item {
        Item::Span(span) if !logs => Some((&span.scope, span_bytes(span))),
        Item::Log(log) if logs => Some((&log.scope, log_bytes(log))),
        _ => None,
    });
    let resources = resources.map(|(scope, record)| {
        let service = wire::KeyValue {
            key: "service.name".to_owned(),
            value: Some(any_value(&Value::String(scope.service.clone()))),
        };
        let library = wire::Library { name: scope.name.clone(), version: scope.version.clone() };
        wire::ResourceRecords {
            resource: Some(wire::Resource { attributes: vec![service] }),
            scopes: vec![wire::ScopeRecords { scope: Some(library), records: vec![record] }],
        }
    });
    wire::Request { resources: resources.collect() }.encode_to_vec()
}

fn span_bytes(span: &crate::telemetry::SpanRecord) -> Vec<u8> {
    let events = span.events.iter().map(|event| wire::Event {
        time_unix_nano: event.at_ns,
        name: event.name.clone(),
        attributes: attributes(&event.attributes),
        dropped_attributes: event.dropped_attributes,
    });
    let links = span
        .links
        .iter()
        .map(|(trace, span)| wire::Link { trace_id: unhex(trace), span_id: unhex(span) });
    let code = if span.error.is_some() { wire::STATUS_ERROR } else { 0 };
    wire::Span {
        trace_id: unhex(&span.trace_id),
        id: unhex(&span.span_id),
        trace_state: span.trace_state.clone(),
        parent: span.parent.as_deref().map(unhex).unwrap_or_default(),
        name: span.name.clone(),
        start_time_unix_nano: span.started_ns,
        end_time_unix_nano: span.ended_ns,
        attributes: attributes(&span.attributes),
        dropped_attributes: span.dropped_attributes,
        events: events.collect(),
        dropped_events: span.dropped_events,
        links: links.collect(),
        status: Some(wire::Status { message: span.error.clone().unwrap_or_default(), code }),
    }
    .encode_to_vec()
}

fn log_bytes(log: &crate::telemetry::LogRecord) -> Vec<u8> {
    wire::LogRecord {
        time_unix_nano: 0,
        body: Some(any_value(&log.body)),
        attributes: attributes(&log.attributes),
        dropped_attributes: log.dropped_attributes,
        trace_id: unhex(&log.trace_id),
        span_id: unhex(&log.span_id),
        observed_unix_nano: log.at_ns,
        event_name: log.name.clone(),
    }
    .encode_to_vec()
}

fn attributes<'a>(map: impl IntoIterator<Item = (&'a String, &'a Value)>) -> Vec<wire::KeyValue> {
    let pair = |(key, value): (&String, &Value)| wire::KeyValue {
        key: key.clone(),
        value: Some(any_value(value)),
    };
    map.into_iter().map(pair).collect()
}

fn any_value(value: &Value) -> wire::AnyValue {
    use wire::any_value::Kind;
    let kind = match value {
        Value::Null => None,
        Value::Bool(flag) => Some(Kind::Bool(*flag)),
        Value::Number(number) => Some(match number.as_i64() {
            Some(int) => Kind::Int(int),
            None => Kind::Double(number.as_f64().unwrap()),
        }),
        Value::String(text) => Some(Kind::Text(text.clone())),
        Value::Array(items) => {
            let values = items.iter().map(any_value).collect();
            Some(Kind::Array(wire::ArrayValue { values }))
        }
        Value::Object(map) => Some(Kind::Map(wire::KeyValueList { values: attributes(map) })),
    };
    wire::AnyValue { kind }
}

fn unhex(text: &str) -> Vec<u8> {
    let pairs = (0..text.len()).step_by(2);
    pairs.map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}
