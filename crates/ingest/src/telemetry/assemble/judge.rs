//! Statements into outcomes of the steps they are about.

use std::collections::BTreeMap;

use understudy_ident::{StepId, Timestamp};
use understudy_trajectory::{Conversation, ModelCall, Outcome, Signal, Source, Span, Target};

use super::{Assembled, step_id};
use crate::telemetry::{Feedback, FeedbackTarget, Verdict, ties::outcome as outcome_id};

pub(super) fn judge(feedback: Vec<Feedback>, assembled: &mut Assembled) {
    let mut outcomes = Vec::new();
    let mut pending = Vec::new();
    let known = Known::of(&assembled.conversations);
    for one in feedback {
        match one.targets.iter().find_map(|target| known.target(target)) {
            Some(target) => outcomes.push(outcome(&one, target)),
            None => pending.push(one),
        }
    }
    assembled.outcomes = outcomes;
    assembled.pending = pending;
}

/// What can be named.
struct Known<'a> {
    spans: BTreeMap<&'a StepId, (&'a Conversation, &'a Span)>,
    runs: BTreeMap<&'a str, &'a StepId>,
    traces: BTreeMap<&'a str, &'a Conversation>,
    /// The calls that asked for tool calls, by the ids of these.
    asked: BTreeMap<&'a str, Target>,
}

impl<'a> Known<'a> {
    fn of(conversations: &'a [Conversation]) -> Self {
        let mut known = Self {
            spans: BTreeMap::new(),
            runs: BTreeMap::new(),
            traces: BTreeMap::new(),
            asked: BTreeMap::new(),
        };
        for conversation in conversations {
            for trace in &conversation.traces {
                // Of several conversations in a trace, the one around the others is meant.
                let is_root = |span: &Span| span.trace_id == *trace && span.parent.is_none();
                if conversation.spans.iter().any(is_root) {
                    known.traces.insert(trace, conversation);
                }
            }
            for (span, call) in conversation.calls() {
                let said = call.output.iter().filter_map(|&at| conversation.messages.get(at));
                for tool_call in said.flat_map(|message| &message.tool_calls) {
                    let target = || target_of(span, call);
                    known.asked.entry(tool_call.id.as_str()).or_insert_with(target);
                }
            }
            for span in &conversation.spans {
                known.spans.insert(&span.id, (conversation, span));
                known.runs.insert(&span.span_id, &span.id);
            }
        }
        known
    }

    fn target(&self, target: &FeedbackTarget) -> Option<Target> {
        match target {
            // A journal waits for these by itself.
            FeedbackTarget::Step(id) => Some(Target::Step(id.clone())),
            FeedbackTarget::Trajectory(id) => Some(Target::Trajectory(id.clone())),
            FeedbackTarget::ToolCall(id) => self.asked.get(id.as_str()).cloned(),
            FeedbackTarget::Response(id) => Some(Target::Response(id.clone())),
            FeedbackTarget::Session(id) => Some(Target::Session(id.clone())),
            FeedbackTarget::Turn { session, turn } => {
                Some(Target::Turn { session: session.clone(), turn: *turn })
            }
            FeedbackTarget::Run(id) => self.step((*self.runs.get(id.as_str())?).clone()),
            FeedbackTarget::Span { trace, span } => self.step(step_id(trace, span)),
            FeedbackTarget::Trace(id) => Some(whole(self.traces.get(id.as_str())?)),
        }
    }

    /// A model call is meant itself, a frame or tool through the last call inside it, and the whole
    /// conversation where there is none.
    fn step(&self, id: StepId) -> Option<Target> {
        let (conversation, _) = self.spans.get(&id)?;
        let inside = |span: &Span| {
            let mut at = Some(&span.id);
            // Parents come from the source, which may be wrong about them in any way.
            for _ in 0..conversation.spans.len() {
                match at {
                    Some(step) if *step == id => return true,
                    Some(step) => at = self.spans.get(step).and_then(|(_, s)| s.parent.as_ref()),
                    None => return false,
                }
            }
            false
        };
        let calls: Vec<_> = conversation.calls().collect();
        let last = calls.iter().rev().find(|(span, _)| inside(span));
        Some(last.map_or_else(|| whole(conversation), |(span, call)| target_of(span, call)))
    }
}

/// A call under the id by which a journal knows it.
fn target_of(span: &Span, call: &ModelCall) -> Target {
    Target::Step(call.captured_as.as_ref().unwrap_or(&span.id).to_string())
}

/// A conversation, which a journal knows under its own id unless our server recorded it.
fn whole(conversation: &Conversation) -> Target {
    match conversation.calls().last() {
        Some((span, call)) if call.captured_as.is_some() => target_of(span, call),
        _ => Target::Trajectory(conversation.id.to_string()),
    }
}

fn outcome(feedback: &Feedback, target: Target) -> Outcome {
    let signal = match (&feedback.verdict, feedback.source) {
        (Verdict::Signal(signal), _) => signal.clone(),
        (Verdict::Correction(text), _) => Signal::Edit { text: text.clone() },
        (Verdict::Score(score), Source::Automated) => {
            Signal::Verifier { name: feedback.name.clone(), score: *score }
        }
        (Verdict::Score(score), Source::Explicit | Source::Implicit) => {
            Signal::Rating { value: *score }
        }
    };
    let is_remark = matches!(signal, Signal::Remark { .. });
    // A remark has its name already.
    let name = if is_remark { "" } else { feedback.name.as_str() };
    let note = match (&feedback.note, name) {
        (Some(note), name) if !name.is_empty() => Some(format!("{name}: {note}")),
        (Some(note), _) => Some(note.clone()),
        (None, "") => None,
        (None, name) => Some(name.to_owned()),
    };
    Outcome {
        id: outcome_id(&feedback.id),
        target,
        signal,
        source: feedback.source,
        at: timestamp(feedback.at_ns),
        note,
        details: feedback.details.clone(),
    }
}

/// Nanoseconds since 1970; the year 2554 ends what they can hold, and a timestamp holds that.
pub(super) fn timestamp(ns: u64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(ns)).unwrap_or(Timestamp::MAX)
}
