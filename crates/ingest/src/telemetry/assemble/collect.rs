//! Each span once, with its log events; each statement once.

use std::collections::BTreeMap;

use serde_json::Value;
use understudy_ident::Digest;
use understudy_manifest::canonical_json;
use understudy_trajectory::Step;

use super::Counts;
use crate::telemetry::{Feedback, Item, LogRecord, SpanRecord, feedback};

#[derive(Debug, Default)]
pub(crate) struct Collected {
    pub(crate) spans: Vec<(SpanRecord, Vec<LogRecord>)>,
    pub(crate) feedback: Vec<Feedback>,
    /// What our own server recorded, by response id.
    pub(crate) served: BTreeMap<String, Step>,
}

type Key = (String, String);

pub(crate) fn collect(items: &[Item], counts: &mut Counts) -> Collected {
    // Keyed by what they say, equal deliveries fall together and the rest has one order.
    let mut versions: BTreeMap<Key, BTreeMap<(u64, String), &SpanRecord>> = BTreeMap::new();
    let mut events: BTreeMap<Key, BTreeMap<(u64, String), LogRecord>> = BTreeMap::new();
    let mut said: BTreeMap<String, Feedback> = BTreeMap::new();
    let mut collected = Collected::default();
    for item in items {
        match item {
            Item::Span(span) => {
                let key = (span.trace_id.clone(), span.span_id.clone());
                let version = (span.ended_ns, canonical_json(span));
                versions.entry(key).or_default().insert(version, span);
            }
            Item::Log(log) => {
                if let Some(one) = feedback::of_log(log) {
                    keep_first(&mut said, one);
                } else if tells_of_a_model(log) {
                    let text = canonical_json(log);
                    events
                        .entry(key_of(log, &text))
                        .or_default()
                        .insert((log.at_ns, text), *log.clone());
                } else {
                    counts.other_logs += 1;
                }
            }
            Item::Feedback(one) => keep_first(&mut said, (**one).clone()),
            Item::Served(step) => {
                let known = collected.served.entry(step.response_id.clone());
                let known = known.or_insert_with(|| (**step).clone());
                if step.id < known.id {
                    known.clone_from(step);
                }
            }
        }
    }
    for (key, versions) in versions {
        counts.merged += usize::from(versions.len() > 1);
        let span = merge(versions.into_values());
        for one in feedback::of_span(&span) {
            keep_first(&mut said, one);
        }
        let logs = events.remove(&key).unwrap_or_default();
        collected.spans.push((span, logs.into_values().collect()));
    }
    for (key, logs) in events {
        let logs: Vec<LogRecord> = logs.into_values().collect();
        collected.spans.push((stand_in(key, &logs), logs));
    }
    collected.feedback = said.into_values().collect();
    collected
}

/// A statement that was changed under one id is another delivery of it: the earliest is kept.
fn keep_first(said: &mut BTreeMap<String, Feedback>, one: Feedback) {
    let rank = |feedback: &Feedback| (feedback.at_ns, canonical_json(feedback));
    match said.get(&one.id) {
        Some(known) if rank(known) <= rank(&one) => {}
        _ => {
            said.insert(one.id.clone(), one);
        }
    }
}

/// Versions of one span, field by field: what ended later wins where it says something.
fn merge<'a>(versions: impl Iterator<Item = &'a SpanRecord>) -> SpanRecord {
    let mut merged = SpanRecord::default();
    for version in versions {
        let said = |old: &mut String, new: &String| {
            if !new.is_empty() {
                old.clone_from(new);
            }
        };
        said(&mut merged.trace_id, &version.trace_id);
        said(&mut merged.span_id, &version.span_id);
        said(&mut merged.trace_state, &version.trace_state);
        said(&mut merged.name, &version.name);
        said(&mut merged.scope.name, &version.scope.name);
        said(&mut merged.scope.version, &version.scope.version);
        said(&mut merged.scope.service, &version.scope.service);
        merged.parent = version.parent.clone().or(merged.parent);
        merged.error = version.error.clone().or(merged.error);
        let starts = [merged.started_ns, version.started_ns];
        merged.started_ns = starts.into_iter().filter(|&at| at > 0).min().unwrap_or(0);
        merged.ended_ns = merged.ended_ns.max(version.ended_ns);
        merged.dropped_attributes = merged.dropped_attributes.max(version.dropped_attributes);
        merged.dropped_events = merged.dropped_events.max(version.dropped_events);
        for (name, value) in version.attributes.iter().filter(|(_, value)| !value.is_null()) {
            merged.attributes.insert(name.clone(), value.clone());
        }
        for event in &version.events {
            if !merged.events.contains(event) {
                merged.events.push(event.clone());
            }
        }
        for link in &version.links {
            if !merged.links.contains(link) {
                merged.links.push(link.clone());
            }
        }
    }
    merged
}

fn tells_of_a_model(log: &LogRecord) -> bool {
    const MESSAGES: [&str; 6] = [
        "gen_ai.client.inference.operation.details",
        "gen_ai.system.message",
        "gen_ai.user.message",
        "gen_ai.assistant.message",
        "gen_ai.tool.message",
        "gen_ai.choice",
    ];
    MESSAGES.contains(&log.name.as_str())
}

/// An event outside any span is a span of its own, named after what it says.
fn key_of(log: &LogRecord, text: &str) -> Key {
    if !log.span_id.is_empty() {
        return (log.trace_id.clone(), log.span_id.clone());
    }
    let digest = Digest::of(text.as_bytes()).to_hex();
    (digest[..32].to_owned(), digest[32..48].to_owned())
}

/// The trace of an event outside any span, if it tells of a model at all.
pub(crate) fn stand_alone(log: &LogRecord) -> Option<String> {
    tells_of_a_model(log).then(|| key_of(log, &canonical_json(log)).0)
}

/// The span that never came, as far as its events tell.
fn stand_in((trace_id, span_id): Key, logs: &[LogRecord]) -> SpanRecord {
    let times = || logs.iter().map(|log| log.at_ns).filter(|&at| at > 0);
    let attributes = [("gen_ai.operation.name".to_owned(), Value::from("chat"))].into();
    SpanRecord {
        trace_id,
        span_id,
        name: logs.first().map(|log| log.name.clone()).unwrap_or_default(),
        scope: logs.first().map(|log| log.scope.clone()).unwrap_or_default(),
        started_ns: times().min().unwrap_or(0),
        ended_ns: times().max().unwrap_or(0),
        attributes,
        ..SpanRecord::default()
    }
}
