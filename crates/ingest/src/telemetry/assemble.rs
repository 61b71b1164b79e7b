//! A bag of items into conversations.
//!
//! Pure and deterministic: everything is sorted by what it is before anything depends on an order,
//! so neither the order of deliveries nor their number shows in the result. What is late simply is
//! in the bag next time, and the conversation comes out whole, its steps under the same ids.

mod build;
pub(super) mod chain;
pub(super) mod collect;
mod inherit;
mod judge;
mod tools;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use understudy_ident::{Digest, StepId};
use understudy_trajectory::{Conversation, Fidelity, Outcome, Step};

use self::{build::build, chain::Groups, collect::collect, inherit::inherit, judge::judge};
use super::{
    Feedback, Item, LogRecord, SpanRecord,
    map::{Body, Draft},
    messages::Reader,
};

/// What a bag amounts to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Assembled {
    /// In the order of their ids.
    pub conversations: Vec<Conversation>,
    /// Statements whose target is here, or names a response or session that a journal can wait for.
    pub outcomes: Vec<Outcome>,
    /// Statements whose target has not arrived.
    pub pending: Vec<Feedback>,
    /// Inline media and large attributes, by digest.
    pub blobs: BTreeMap<Digest, Vec<u8>>,
    pub counts: Counts,
}

/// What was done to the bag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Distinct spans, events that stand for a span included.
    pub spans: usize,
    /// Spans that were delivered in versions, which were merged.
    pub merged: usize,
    /// Log events that tell nothing of a model.
    pub other_logs: usize,
    /// Model calls told by two instrumentations, of which the fuller account was taken.
    pub told_twice: usize,
    /// Calls that were left apart because what they go on from was said in several conversations.
    pub ambiguous: usize,
}

/// Puts the items of one tenant together. Sessions and response ids are taken to be unique in it.
pub fn assemble(items: &[Item]) -> Assembled {
    let mut assembled = Assembled::default();
    let collected = collect(items, &mut assembled.counts);
    let (mut drafts, reader) = prepare(collected.spans, &collected.served);
    inherit(&mut drafts, |draft| &mut draft.session);
    inherit(&mut drafts, |draft| &mut draft.subject);
    assembled.counts.spans = drafts.len();
    assembled.blobs = reader.blobs;
    assembled.counts.told_twice = chain::demote_repeated(&mut drafts);
    let groups = Groups::find(&mut drafts, &mut assembled.counts);
    let known: BTreeSet<StepId> = drafts.iter().map(id_of).collect();
    for members in groups.into_members() {
        let conversation = build(&drafts, &members, &known, &mut assembled.blobs);
        assembled.conversations.push(conversation);
    }
    assembled.conversations.sort_by(|a, b| a.id.cmp(&b.id));
    judge(collected.feedback, &mut assembled);
    assembled
}

/// Each span as it is understood on its own, in the order of starts.
pub(super) fn prepare(
    spans: Vec<(SpanRecord, Vec<LogRecord>)>,
    served: &BTreeMap<String, Step>,
) -> (Vec<Draft>, Reader) {
    let mut reader = Reader::default();
    let read =
        |(span, logs): (SpanRecord, Vec<LogRecord>)| super::map::map(span, &logs, &mut reader);
    let mut drafts: Vec<Draft> = spans.into_iter().map(read).collect();
    drafts.sort_by(|a, b| order(a).cmp(&order(b)));
    for draft in &mut drafts {
        recall(draft, served);
    }
    (drafts, reader)
}

/// Gives a call the words that our own server recorded, where its client told none.
fn recall(draft: &mut Draft, served: &BTreeMap<String, Step>) {
    let Body::Model(said) = &mut draft.body else { return };
    let Some(step) = said.call.response_id.as_ref().and_then(|id| served.get(id)) else { return };
    said.call.captured_as = Some(step.id.clone());
    if said.call.content == Fidelity::Absent {
        said.input.clone_from(&step.prompt);
        said.output = vec![step.reply.clone()];
        said.call.content = Fidelity::Full;
    }
}

fn order(draft: &Draft) -> (u64, &str, &str) {
    (draft.record.started_ns, &draft.record.trace_id, &draft.record.span_id)
}

fn id_of(draft: &Draft) -> StepId {
    step_id(&draft.record.trace_id, &draft.record.span_id)
}

/// The id of a span on every delivery.
pub(crate) fn step_id(trace: &str, span: &str) -> StepId {
    StepId::derived(&format!("span {trace} {span}"))
}
