//! What of a bag has to be assembled together, so that the rest of it can be left alone.
//!
//! A *unit* is what can only be read as a whole: a trace, or a statement about something elsewhere.
//! Units that share no *tie*, directly or through others, do not meet in assembly: each such part of
//! a bag gives by itself what it gives within the bag. Ties say too much rather than too little: two
//! calls that begin with the same exchange share one, and whether they are one conversation is still
//! assembly's decision.

use std::collections::BTreeSet;

use understudy_ident::{Digest, OutcomeId, StepId};
use understudy_message::{Message, Role};
use understudy_trajectory::Step;

use super::{
    Counts, FeedbackTarget, Item,
    assemble::{chain, collect, prepare},
    feedback,
    map::{Body, Said},
};

/// Hexadecimal digits of an OTLP span id. Others are unique beyond their trace.
const OTLP_SPAN_ID: usize = 16;

/// The unit an item belongs to; `None` for what tells of nothing by itself.
pub fn unit(item: &Item) -> Option<String> {
    match item {
        Item::Span(span) => Some(trace(&span.trace_id)),
        Item::Log(log) if !log.span_id.is_empty() => Some(trace(&log.trace_id)),
        Item::Log(log) => match feedback::of_log(log) {
            Some(one) => Some(format!("statement {}", one.id)),
            None => collect::stand_alone(log).map(|id| trace(&id)),
        },
        Item::Feedback(one) => Some(format!("statement {}", one.id)),
        Item::Served(_) => None,
    }
}

/// The ties of one unit, which is all of `items` but for the steps our own server recorded.
pub fn ties(items: &[Item]) -> BTreeSet<String> {
    let collected = collect::collect(items, &mut Counts::default());
    let mut ties: BTreeSet<String> =
        collected.feedback.iter().flat_map(|one| one.targets.iter().map(of_target)).collect();
    for (span, _) in &collected.spans {
        ties.insert(trace(&span.trace_id));
        if span.span_id.len() != OTLP_SPAN_ID {
            ties.insert(format!("run {}", span.span_id));
        }
    }
    let (drafts, _) = prepare(collected.spans, &collected.served);
    for draft in &drafts {
        ties.extend(draft.session.as_ref().map(|id| format!("session {id}")));
        if let Body::Model(said) = &draft.body {
            of_call(said, &mut ties);
        }
    }
    ties
}

/// Ties that the unit of a step made of telemetry has: to find it again by what became of it.
pub fn ties_of_step(step: &Step) -> BTreeSet<String> {
    let mut ties = BTreeSet::from([format!("response {}", step.response_id)]);
    ties.extend(step.session.as_ref().map(|id| format!("session {id}")));
    let openings = openings(&step.prompt, std::slice::from_ref(&step.reply));
    ties.extend(openings.into_iter().map(|digest| format!("said {digest}")));
    ties
}

/// The ids that the steps and outcomes made of these items can have.
pub fn accounts(items: &[Item]) -> BTreeSet<String> {
    let collected = collect::collect(items, &mut Counts::default());
    let steps = collected.spans.iter().map(|(span, _)| step(&span.trace_id, &span.span_id));
    let outcomes = collected.feedback.iter().map(|one| outcome(&one.id));
    steps.map(|id| id.to_string()).chain(outcomes.map(|id| id.to_string())).collect()
}

/// The responses named by these ties: what our own server may have recorded.
pub fn responses(ties: &BTreeSet<String>) -> impl Iterator<Item = &str> {
    ties.iter().filter_map(|tie| tie.strip_prefix("response "))
}

fn step(trace: &str, span: &str) -> StepId {
    super::span_step_id(trace, span)
}

/// The id of the outcome that a statement becomes: its own where it is one of ours.
pub(crate) fn outcome(feedback: &str) -> OutcomeId {
    feedback.parse().unwrap_or_else(|_| OutcomeId::derived(&format!("feedback {feedback}")))
}

fn trace(id: &str) -> String {
    format!("trace {id}")
}

fn of_target(target: &FeedbackTarget) -> String {
    match target {
        FeedbackTarget::Response(id) => format!("response {id}"),
        FeedbackTarget::Step(id) => format!("step {id}"),
        FeedbackTarget::Trajectory(id) => format!("trajectory {id}"),
        FeedbackTarget::ToolCall(id) => format!("call {id}"),
        FeedbackTarget::Run(id) => format!("run {id}"),
        FeedbackTarget::Span { trace: id, .. } | FeedbackTarget::Trace(id) => trace(id),
        FeedbackTarget::Session(id) | FeedbackTarget::Turn { session: id, .. } => {
            format!("session {id}")
        }
    }
}

fn of_call(said: &Said, ties: &mut BTreeSet<String>) {
    let responses = [&said.call.response_id, &said.call.previous_response_id];
    ties.extend(responses.into_iter().flatten().map(|id| format!("response {id}")));
    let asked = said.output.iter().flat_map(|choice| choice.tool_calls.iter().map(|call| &call.id));
    let answered = said.input.iter().filter_map(|message| message.tool_call_id.as_ref());
    let unique = asked.chain(answered).filter(|id| chain::is_unique(id));
    ties.extend(unique.map(|id| format!("call {id}")));
    ties.extend(
        openings(&said.input, &said.output).into_iter().map(|digest| format!("said {digest}")),
    );
}

/// What was said up to and with the first reply. A call and the one it goes on from agree in it,
/// because the input of the one begins with the input and the output of the other.
fn openings(input: &[Message], output: &[Message]) -> Vec<Digest> {
    let prefixes = chain::prefixes(input);
    if let Some(first) = input.iter().position(|message| message.role == Role::Assistant) {
        return vec![prefixes[first]];
    }
    let Some(before) = prefixes.last() else { return Vec::new() };
    output.iter().map(|choice| chain::extended(before, choice)).collect()
}
