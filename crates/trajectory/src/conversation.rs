//! A trajectory put together from somebody else's telemetry: everything that happened, who said
//! what, and which call went on from which.

use serde::{Deserialize, Serialize};
use understudy_ident::{StepId, TrajectoryId};
use understudy_message::Message;

use crate::{ModelCall, Span, SpanBody, ToolRun};

/// One conversation: a tree of model calls, with the tools run and the frames around them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Conversation {
    pub id: TrajectoryId,
    /// The version of the rules that read the source.
    pub mapper: u32,
    /// The source's own name for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    pub traces: Vec<String>,
    pub dialects: Vec<String>,
    /// The least share of traces like these that the source kept, in (0, 1]; 1 when it told none.
    pub sampled: f64,
    /// Spans whose parent never came. They are kept, as roots.
    pub orphans: usize,
    /// Each message once, in the order it was first said.
    pub messages: Vec<Message>,
    /// In the order of their starts.
    pub spans: Vec<Span>,
}

/// Whether more of a conversation is to be expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Open,
    /// Silent for a minute after its root ended, or for half an hour without one.
    Quiescent,
    /// Silent for a day. What still comes opens it again.
    Closed,
}

const MINUTE_NS: u64 = 60_000_000_000;

impl Conversation {
    /// How far it is, by the clock of whoever asks, in nanoseconds since 1970.
    pub fn phase(&self, now_ns: u64) -> Phase {
        let last = self.spans.iter().map(|span| span.started_ns.max(span.ended_ns)).max();
        let silent = now_ns.saturating_sub(last.unwrap_or(0));
        let is_root = |span: &&Span| span.parent.is_none() && span.ended_ns > 0;
        let has_ended = self.orphans == 0
            && self.spans.iter().any(|span| is_root(&span) && span.holds_others())
            && self.spans.iter().filter(is_root).all(|span| span.ended_ns <= now_ns);
        match silent {
            silent if silent >= 24 * 60 * MINUTE_NS => Phase::Closed,
            silent if silent >= 30 * MINUTE_NS || has_ended && silent >= MINUTE_NS => {
                Phase::Quiescent
            }
            _ => Phase::Open,
        }
    }

    /// The model calls, in the order of their starts.
    pub fn calls(&self) -> impl Iterator<Item = (&Span, &ModelCall)> {
        self.spans.iter().filter_map(|span| match &span.body {
            SpanBody::Model(call) => Some((span, &**call)),
            SpanBody::Tool(_) | SpanBody::Retrieval(_) | SpanBody::Frame { .. } => None,
        })
    }

    /// The tool runs, in the order of their starts.
    pub fn runs(&self) -> impl Iterator<Item = (&Span, &ToolRun)> {
        self.spans.iter().filter_map(|span| match &span.body {
            SpanBody::Tool(run) => Some((span, run)),
            SpanBody::Model(_) | SpanBody::Retrieval(_) | SpanBody::Frame { .. } => None,
        })
    }

    /// The messages at these places.
    pub fn said(&self, places: &[usize]) -> Vec<Message> {
        places.iter().filter_map(|&place| self.messages.get(place).cloned()).collect()
    }

    /// One list of model calls for every call that none continues, from its beginning to it: a
    /// conversation that was edited or regenerated halfway has two that begin alike.
    pub fn paths(&self) -> Vec<Vec<StepId>> {
        let continued: Vec<&StepId> =
            self.calls().filter_map(|(_, call)| call.continues.as_ref()).collect();
        let leaves = self.calls().filter(|(span, _)| !continued.contains(&&span.id));
        leaves.map(|(leaf, _)| self.path_to(&leaf.id)).collect()
    }

    fn path_to(&self, leaf: &StepId) -> Vec<StepId> {
        let mut path = vec![leaf.clone()];
        let before = |id: &StepId| {
            self.calls()
                .find(|(span, _)| span.id == *id)
                .and_then(|(_, call)| call.continues.clone())
        };
        // A call continues one that began earlier, so there is no way round in a circle; a record
        // that was written by hand may still hold one.
        while let Some(earlier) = path.last().and_then(before).filter(|id| !path.contains(id)) {
            path.push(earlier);
        }
        path.reverse();
        path
    }
}
