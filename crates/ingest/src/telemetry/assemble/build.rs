//! The spans of one group into a conversation.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use understudy_ident::{Digest, StepId, TrajectoryId};
use understudy_manifest::canonical_json;
use understudy_message::Message;
use understudy_trajectory::{Conversation, Span, SpanBody, ToolRun};

use super::{id_of, step_id, tools::runs};
use crate::telemetry::{
    MAPPER_VERSION,
    map::{Body, Draft},
};

/// Attributes larger than this, in bytes of JSON, stand beside the conversation: frameworks repeat
/// their whole state in every span.
const INLINE: usize = 512;

pub(super) fn build(
    drafts: &[Draft],
    members: &[usize],
    known: &BTreeSet<StepId>,
    blobs: &mut BTreeMap<Digest, Vec<u8>>,
) -> Conversation {
    let mut table = Table::default();
    let mut runs = runs(drafts, members);
    let mut orphans = 0;
    let mut spans: Vec<Span> = Vec::with_capacity(members.len() + runs.made.len());
    for &at in members {
        let mut told = span(&drafts[at], runs.told.remove(&at), &mut table, blobs);
        let has_parent = told.parent.is_some();
        told.parent = told.parent.filter(|parent| known.contains(parent));
        orphans += usize::from(has_parent && told.parent.is_none());
        spans.push(told);
    }
    for mut run in runs.made {
        run.parent = run.parent.filter(|parent| known.contains(parent));
        spans.push(run);
    }
    spans.sort_by(|a, b| (a.started_ns, &a.id).cmp(&(b.started_ns, &b.id)));
    let group: Vec<&Draft> = members.iter().map(|&at| &drafts[at]).collect();
    Conversation {
        id: id(&group),
        mapper: MAPPER_VERSION,
        session: first(&group, |draft| draft.session.as_ref()),
        subject: first(&group, |draft| draft.subject.as_ref()),
        agent: first(&group, |draft| draft.agent.as_ref()),
        workflow: first(&group, |draft| draft.workflow.as_ref()),
        traces: distinct(group.iter().map(|draft| draft.record.trace_id.clone())),
        dialects: distinct(group.iter().map(|draft| draft.dialect.to_string())),
        sampled: group
            .iter()
            .map(|draft| kept_share(&draft.record.trace_state))
            .fold(1.0, f64::min),
        orphans,
        messages: table.messages,
        spans,
    }
}

/// One span, a tool's with the call it was found to answer.
fn span(
    draft: &Draft,
    found: Option<(ToolRun, Option<Value>)>,
    table: &mut Table,
    blobs: &mut BTreeMap<Digest, Vec<u8>>,
) -> Span {
    let mut extra = draft.extra.clone();
    let body = match &draft.body {
        Body::Model(said) => {
            let mut call = said.call.clone();
            call.input = said.input.iter().map(|message| table.place(message)).collect();
            call.output = said.output.iter().map(|message| table.place(message)).collect();
            SpanBody::Model(Box::new(call))
        }
        Body::Tool(told) => {
            let (run, own) = found.unwrap_or_else(|| (told.clone(), None));
            extra.extend(own.map(|own| ("understudy.own_arguments".to_owned(), own)));
            SpanBody::Tool(run)
        }
        Body::Retrieval(retrieval) => SpanBody::Retrieval(retrieval.clone()),
        Body::Frame(role) => SpanBody::Frame { role: *role },
    };
    let record = &draft.record;
    Span {
        id: id_of(draft),
        parent: record.parent.as_ref().map(|parent| step_id(&record.trace_id, parent)),
        name: record.name.clone(),
        trace_id: record.trace_id.clone(),
        span_id: record.span_id.clone(),
        dialect: draft.dialect.to_string(),
        started_ns: record.started_ns,
        ended_ns: record.ended_ns,
        error: record.error.clone(),
        body,
        extra: extra.into_iter().map(|(name, value)| (name, lightened(value, blobs))).collect(),
    }
}

/// By the session's name; without one, by the trace it began in, so that only a call that is
/// delivered late and happened first gives it another.
fn id(group: &[&Draft]) -> TrajectoryId {
    if let Some(session) = first(group, |draft| draft.session.as_ref()) {
        return TrajectoryId::derived(&format!("session {session}"));
    }
    let trace = group.first().map(|draft| draft.record.trace_id.as_str());
    TrajectoryId::derived(&format!("trace {}", trace.unwrap_or_default()))
}

fn first<'a>(
    group: &[&'a Draft],
    name: impl Fn(&'a Draft) -> Option<&'a String>,
) -> Option<String> {
    group.iter().find_map(|draft| name(draft)).cloned()
}

fn distinct(names: impl Iterator<Item = String>) -> Vec<String> {
    names.collect::<BTreeSet<String>>().into_iter().collect()
}

/// The share of traces kept by a consistent sampler, from the threshold in the W3C trace state:
/// `ot=th:T`, hexadecimal without its trailing zeros, keeps 1 - T / 2^56 (OpenTelemetry,
/// *TraceState: Probability Sampling*). 1 when it tells none.
fn kept_share(trace_state: &str) -> f64 {
    let members = trace_state.split(',').map(str::trim);
    let ours = members.filter_map(|member| member.strip_prefix("ot="));
    let mut keys = ours.flat_map(|member| member.split(';'));
    let threshold = keys.find_map(|key| key.strip_prefix("th:"));
    let threshold = threshold.filter(|digits| (1..=14).contains(&digits.len()));
    let Some(Ok(value)) = threshold.map(|digits| u64::from_str_radix(digits, 16)) else {
        return 1.0;
    };
    let digits = threshold.map_or(14, str::len);
    let value = value << (4 * (14 - digits));
    1.0 - value as f64 / (1_u64 << 56) as f64
}

fn lightened(value: Value, blobs: &mut BTreeMap<Digest, Vec<u8>>) -> Value {
    let text = match &value {
        Value::String(text) => text.clone(),
        other => canonical_json(other),
    };
    if text.len() <= INLINE {
        return value;
    }
    let digest = Digest::of(text.as_bytes());
    let bytes = text.len();
    blobs.insert(digest, text.into_bytes());
    json!({"digest": digest, "bytes": bytes})
}

/// Messages, each once.
#[derive(Debug, Default)]
struct Table {
    messages: Vec<Message>,
    places: BTreeMap<String, usize>,
}

impl Table {
    fn place(&mut self, message: &Message) -> usize {
        let said = canonical_json(message);
        let messages = &mut self.messages;
        *self.places.entry(said).or_insert_with(|| {
            messages.push(message.clone());
            messages.len() - 1
        })
    }
}
