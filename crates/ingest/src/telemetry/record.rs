//! Spans and log events as they were sent, whatever the encoding.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use understudy_trajectory::Step;

use super::Feedback;

/// One thing that was delivered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Item {
    Span(Box<SpanRecord>),
    Log(Box<LogRecord>),
    Feedback(Box<Feedback>),
    /// A step that our own server recorded. A client that tells only the id of its response gets
    /// its words from here.
    Served(Box<Step>),
}

/// The library that instrumented, and the name of the service it ran in.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Scope {
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub service: String,
}

/// One span. Ids are lower-case hexadecimal for OTLP and the source's own text otherwise; times are
/// nanoseconds since 1970, 0 for none.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SpanRecord {
    pub trace_id: String,
    pub span_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub trace_state: String,
    pub name: String,
    pub scope: Scope,
    pub started_ns: u64,
    pub ended_ns: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    pub attributes: BTreeMap<String, Value>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Event>,
    /// The trace and span ids of other spans this one points to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<(String, String)>,
    /// Attributes that its client left out, mostly because there were more than its limit.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dropped_attributes: u32,
    /// Events that its client left out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dropped_events: u32,
}

/// Something that happened at one moment of a span.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub name: String,
    pub at_ns: u64,
    pub attributes: BTreeMap<String, Value>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dropped_attributes: u32,
}

/// One log event, which belongs to a span when it names one.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LogRecord {
    pub trace_id: String,
    pub span_id: String,
    pub name: String,
    pub scope: Scope,
    pub at_ns: u64,
    pub body: Value,
    pub attributes: BTreeMap<String, Value>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dropped_attributes: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}
