//! The protobuf encoding.
//!
//! Written from opentelemetry-proto's `trace.proto`, `logs.proto` and `common.proto`. Spans and log
//! records are declared as bytes, which is the same on the wire: one that is broken fails alone.

#[cfg(test)]
pub(crate) mod encode;

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use prost::Message;
use serde_json::Value;

use super::{event_name, hex, keep_log, keep_span, scope};
use crate::telemetry::{Decoded, Event, LogRecord, Scope, SpanRecord, TelemetryError};

pub(crate) fn traces_from_protobuf(body: &[u8]) -> Result<Decoded, TelemetryError> {
    let request = wire::Request::decode(body).map_err(|why| failed(&why))?;
    let mut decoded = Decoded::default();
    each_record(&request, &mut decoded, |bytes, scope, decoded| {
        let span = wire::Span::decode(bytes).map_err(|why| format!("a span is broken: {why}"));
        let span = span.map(|span| read_span(span, scope, &mut decoded.repaired));
        keep_span(decoded, span);
    });
    Ok(decoded)
}

pub(crate) fn logs_from_protobuf(body: &[u8]) -> Result<Decoded, TelemetryError> {
    let request = wire::Request::decode(body).map_err(|why| failed(&why))?;
    let mut decoded = Decoded::default();
    each_record(&request, &mut decoded, |bytes, scope, decoded| {
        let log =
            wire::LogRecord::decode(bytes).map_err(|why| format!("a log record is broken: {why}"));
        let log = log.map(|log| read_log(log, scope, &mut decoded.repaired));
        keep_log(decoded, log);
    });
    Ok(decoded)
}

fn failed(why: &prost::DecodeError) -> TelemetryError {
    TelemetryError::Protobuf(why.to_string())
}

fn each_record(
    request: &wire::Request,
    decoded: &mut Decoded,
    mut read: impl FnMut(&[u8], &Scope, &mut Decoded),
) {
    for group in &request.resources {
        let resource = group.resource.clone().unwrap_or_default().attributes;
        let resource = attributes(resource, &mut decoded.repaired);
        for records in &group.scopes {
            let library = records.scope.clone().unwrap_or_default();
            let scope = scope(&library.name, &library.version, &resource);
            for bytes in &records.records {
                read(bytes, &scope, decoded);
            }
        }
    }
}

fn read_span(span: wire::Span, scope: &Scope, repaired: &mut usize) -> SpanRecord {
    let status = span.status.unwrap_or_default();
    let events = span.events.into_iter().map(|event| Event {
        name: event.name,
        at_ns: event.time_unix_nano,
        attributes: attributes(event.attributes, repaired),
        dropped_attributes: event.dropped_attributes,
    });
    let events = events.collect();
    let links = span.links.iter().map(|link| (hex(&link.trace_id), hex(&link.span_id)));
    SpanRecord {
        trace_id: hex(&span.trace_id),
        span_id: hex(&span.id),
        parent: Some(hex(&span.parent)).filter(|id| id.bytes().any(|byte| byte != b'0')),
        trace_state: span.trace_state,
        name: span.name,
        scope: scope.clone(),
        started_ns: span.start_time_unix_nano,
        ended_ns: span.end_time_unix_nano,
        error: (status.code == wire::STATUS_ERROR).then_some(status.message),
        events,
        links: links.collect(),
        attributes: attributes(span.attributes, repaired),
        dropped_attributes: span.dropped_attributes,
        dropped_events: span.dropped_events,
    }
}

fn read_log(log: wire::LogRecord, scope: &Scope, repaired: &mut usize) -> LogRecord {
    let mut attributes = attributes(log.attributes, repaired);
    LogRecord {
        trace_id: hex(&log.trace_id),
        span_id: hex(&log.span_id),
        name: event_name(log.event_name, &mut attributes),
        scope: scope.clone(),
        at_ns: Some(log.time_unix_nano).filter(|&at| at > 0).unwrap_or(log.observed_unix_nano),
        body: log.body.map_or(Value::Null, |body| any_value(body, repaired)),
        attributes,
        dropped_attributes: log.dropped_attributes,
    }
}

/// Of two values for one key, which the specification forbids, the later one is kept.
fn attributes(list: Vec<wire::KeyValue>, repaired: &mut usize) -> BTreeMap<String, Value> {
    let read = |pair: wire::KeyValue| {
        let value = pair.value.map_or(Value::Null, |value| any_value(value, repaired));
        (pair.key, value)
    };
    list.into_iter().map(read).collect()
}

/// An empty value is how clients spell null.
fn any_value(value: wire::AnyValue, repaired: &mut usize) -> Value {
    use wire::any_value::Kind;
    match value.kind {
        None => Value::Null,
        Some(Kind::Text(text)) => Value::String(text),
        Some(Kind::Bool(flag)) => Value::Bool(flag),
        Some(Kind::Int(number)) => Value::from(number),
        Some(Kind::Double(number)) => {
            let finite = serde_json::Number::from_f64(number);
            *repaired += usize::from(finite.is_none());
            finite.map_or(Value::Null, Value::Number)
        }
        Some(Kind::Array(list)) => {
            list.values.into_iter().map(|value| any_value(value, repaired)).collect()
        }
        Some(Kind::Map(map)) => attributes(map.values, repaired).into_iter().collect(),
        Some(Kind::Bytes(bytes)) => Value::String(BASE64_STANDARD.encode(bytes)),
    }
}

/// The messages, in the parts of them that are read. Fields left out are skipped by the decoder.
mod wire {
    pub(super) const STATUS_ERROR: i32 = 2;

    /// `ExportTraceServiceRequest` and `ExportLogsServiceRequest`, which differ in their records.
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Request {
        #[prost(message, repeated, tag = "1")]
        pub(super) resources: Vec<ResourceRecords>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ResourceRecords {
        #[prost(message, optional, tag = "1")]
        pub(super) resource: Option<Resource>,
        #[prost(message, repeated, tag = "2")]
        pub(super) scopes: Vec<ScopeRecords>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Resource {
        #[prost(message, repeated, tag = "1")]
        pub(super) attributes: Vec<KeyValue>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ScopeRecords {
        #[prost(message, optional, tag = "1")]
        pub(super) scope: Option<Library>,
        /// Each a `Span` or a `LogRecord`.
        #[prost(bytes = "vec", repeated, tag = "2")]
        pub(super) records: Vec<Vec<u8>>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Library {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(string, tag = "2")]
        pub(super) version: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Span {
        #[prost(bytes = "vec", tag = "1")]
        pub(super) trace_id: Vec<u8>,
        #[prost(bytes = "vec", tag = "2")]
        pub(super) id: Vec<u8>,
        #[prost(string, tag = "3")]
        pub(super) trace_state: String,
        #[prost(bytes = "vec", tag = "4")]
        pub(super) parent: Vec<u8>,
        #[prost(string, tag = "5")]
        pub(super) name: String,
        #[prost(fixed64, tag = "7")]
        pub(super) start_time_unix_nano: u64,
        #[prost(fixed64, tag = "8")]
        pub(super) end_time_unix_nano: u64,
        #[prost(message, repeated, tag = "9")]
        pub(super) attributes: Vec<KeyValue>,
        #[prost(uint32, tag = "10")]
        pub(super) dropped_attributes: u32,
        #[prost(message, repeated, tag = "11")]
        pub(super) events: Vec<Event>,
        #[prost(uint32, tag = "12")]
        pub(super) dropped_events: u32,
        #[prost(message, repeated, tag = "13")]
        pub(super) links: Vec<Link>,
        #[prost(message, optional, tag = "15")]
        pub(super) status: Option<Status>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Event {
        #[prost(fixed64, tag = "1")]
        pub(super) time_unix_nano: u64,
        #[prost(string, tag = "2")]
        pub(super) name: String,
        #[prost(message, repeated, tag = "3")]
        pub(super) attributes: Vec<KeyValue>,
        #[prost(uint32, tag = "4")]
        pub(super) dropped_attributes: u32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Link {
        #[prost(bytes = "vec", tag = "1")]
        pub(super) trace_id: Vec<u8>,
        #[prost(bytes = "vec", tag = "2")]
        pub(super) span_id: Vec<u8>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Status {
        #[prost(string, tag = "2")]
        pub(super) message: String,
        #[prost(int32, tag = "3")]
        pub(super) code: i32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct LogRecord {
        #[prost(fixed64, tag = "1")]
        pub(super) time_unix_nano: u64,
        #[prost(message, optional, tag = "5")]
        pub(super) body: Option<AnyValue>,
        #[prost(message, repeated, tag = "6")]
        pub(super) attributes: Vec<KeyValue>,
        #[prost(uint32, tag = "7")]
        pub(super) dropped_attributes: u32,
        #[prost(bytes = "vec", tag = "9")]
        pub(super) trace_id: Vec<u8>,
        #[prost(bytes = "vec", tag = "10")]
        pub(super) span_id: Vec<u8>,
        #[prost(fixed64, tag = "11")]
        pub(super) observed_unix_nano: u64,
        #[prost(string, tag = "12")]
        pub(super) event_name: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct KeyValue {
        #[prost(string, tag = "1")]
        pub(super) key: String,
        #[prost(message, optional, tag = "2")]
        pub(super) value: Option<AnyValue>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct AnyValue {
        #[prost(oneof = "any_value::Kind", tags = "1, 2, 3, 4, 5, 6, 7")]
        pub(super) kind: Option<any_value::Kind>,
    }

    pub(super) mod any_value {
        use super::{ArrayValue, KeyValueList};

        #[derive(Clone, PartialEq, prost::Oneof)]
        pub(in super::super) enum Kind {
            #[prost(string, tag = "1")]
            Text(String),
            #[prost(bool, tag = "2")]
            Bool(bool),
            #[prost(int64, tag = "3")]
            Int(i64),
            #[prost(double, tag = "4")]
            Double(f64),
            #[prost(message, tag = "5")]
            Array(ArrayValue),
            #[prost(message, tag = "6")]
            Map(KeyValueList),
            #[prost(bytes = "vec", tag = "7")]
            Bytes(Vec<u8>),
        }
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ArrayValue {
        #[prost(message, repeated, tag = "1")]
        pub(super) values: Vec<AnyValue>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct KeyValueList {
        #[prost(message, repeated, tag = "1")]
        pub(super) values: Vec<KeyValue>,
    }
}
