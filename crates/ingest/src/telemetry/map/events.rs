//! Content that comes as events: of the log signal, or inside the span.
//!
//! The current conventions have one event with everything in its attributes; those before 1.37 have
//! one event a message, with the message in the body of a log record or in the attributes of a span
//! event.

use serde_json::{Map, Value};
use understudy_message::Role;

use super::{Bag, Kind, Sheet, finish_named};
use crate::telemetry::{LogRecord, SpanRecord};

const DETAILS: &str = "gen_ai.client.inference.operation.details";

/// One message of the older events.
#[derive(Debug)]
pub(crate) struct Legacy {
    role: Role,
    is_choice: bool,
    body: Value,
}

/// Adds the details to the span's own attributes, which win, and returns the message events in the
/// order they happened.
pub(crate) fn split(record: &SpanRecord, logs: &[LogRecord], bag: &mut Bag) -> Vec<Legacy> {
    let mut events: Vec<(u64, Legacy)> = Vec::new();
    for log in logs {
        if log.name == DETAILS {
            bag.fill(&log.attributes);
            if let Value::Object(body) = &log.body {
                bag.fill(&body.clone().into_iter().collect());
            }
        } else if let Some(event) = legacy(&log.name, log.body.clone()) {
            events.push((log.at_ns, event));
        }
    }
    for event in &record.events {
        if holds_content(&event.name) {
            bag.fill(&event.attributes);
        } else {
            let body: Map<String, Value> = event.attributes.clone().into_iter().collect();
            let found = legacy(&event.name, Value::Object(body));
            events.extend(found.map(|found| (event.at_ns, found)));
        }
    }
    // Clocks may be too coarse to tell what came first, but the system speaks before anybody else
    // and the reply comes last.
    events.sort_by_key(|(at, event)| (*at, event.is_choice, event.role != Role::System));
    events.into_iter().map(|(_, event)| event).collect()
}

/// Whether some of what the events say never came. Streams tell each chunk in an event of its own,
/// which may be dropped: dropped events count only where events are what tells the messages.
pub(crate) fn lost(record: &SpanRecord, logs: &[LogRecord]) -> bool {
    let mut tell = record.events.iter().filter(|event| tells_messages(&event.name));
    let dropped = |count: u32| count > 0;
    (dropped(record.dropped_events) && tell.clone().next().is_some())
        || tell.any(|event| dropped(event.dropped_attributes))
        || logs.iter().any(|log| dropped(log.dropped_attributes))
}

fn tells_messages(event: &str) -> bool {
    event != "gen_ai.content.completion.chunk"
        && (holds_content(event) || legacy(event, Value::Null).is_some())
}

/// Whether its attributes are those of the span itself.
fn holds_content(event: &str) -> bool {
    event == DETAILS || event.starts_with("gen_ai.content.")
}

pub(crate) fn fill(sheet: &mut Sheet, events: &[Legacy]) {
    if events.is_empty() || !sheet.said.input.is_empty() || !sheet.said.output.is_empty() {
        return;
    }
    sheet.kind.get_or_insert(Kind::Model);
    for event in events {
        let mut fields = structured(&event.body);
        fields.insert("role".to_owned(), Value::String(event.role.as_str().to_owned()));
        // A body with nothing but ids is what the events look like when content is off.
        let says = ["content", "tool_calls"].iter().any(|name| fields.contains_key(*name));
        if event.is_choice {
            let finish = event.body.get("finish_reason").and_then(Value::as_str);
            let finish = finish.and_then(finish_named);
            sheet.said.call.finish = sheet.said.call.finish.take().or(finish);
        }
        let messages =
            if says { sheet.reader.read(&Value::Object(fields), event.role) } else { Vec::new() };
        if event.is_choice {
            sheet.said.output.extend(messages);
        } else {
            sheet.said.input.extend(messages);
        }
    }
}

/// Attributes of span events cannot hold structures, so these are JSON in text there.
fn structured(body: &Value) -> Map<String, Value> {
    let mut fields = body.as_object().cloned().unwrap_or_default();
    for name in ["message", "tool_calls"] {
        if let Some(Value::String(text)) = fields.get(name)
            && let Ok(parsed) = serde_json::from_str(text)
        {
            fields.insert(name.to_owned(), parsed);
        }
    }
    if let Some(Value::Object(message)) = fields.remove("message") {
        fields.extend(message);
    }
    fields
}

fn legacy(name: &str, body: Value) -> Option<Legacy> {
    let (role, is_choice) = match name {
        "gen_ai.system.message" => (Role::System, false),
        "gen_ai.user.message" => (Role::User, false),
        "gen_ai.assistant.message" => (Role::Assistant, false),
        "gen_ai.tool.message" => (Role::Tool, false),
        "gen_ai.choice" => (Role::Assistant, true),
        _ => return None,
    };
    Some(Legacy { role, is_choice, body })
}
