//! What happened, without what was said: who spoke how often, who answered, how long it took, what
//! it cost and how it was judged.

use understudy_ingest::telemetry::{Feedback, Item, Verdict};
use understudy_message::Message;
use understudy_trajectory::{Outcome, Signal, Step};

/// In place of words that somebody has to find something in.
const NOT_KEPT: &str = "what was said is not kept";

/// The roles of the messages stay, because turns are counted by them.
pub(crate) fn step(step: Step) -> Step {
    let unsaid = |message: &Message| Message::new(message.role, "");
    Step {
        prompt: step.prompt.iter().map(unsaid).collect(),
        reply: unsaid(&step.reply),
        tools: Vec::new(),
        tokens: None,
        error: step.error.map(|_| NOT_KEPT.to_owned()),
        ..step
    }
}

pub(crate) fn outcome(mut outcome: Outcome) -> Outcome {
    outcome.signal = signal(outcome.signal);
    outcome.note = None;
    if let Some(details) = &mut outcome.details {
        details.label = None;
    }
    outcome
}

/// An edit without its text would be one that changed nothing, so it becomes what counts for nothing.
fn signal(signal: Signal) -> Signal {
    let silent = |name: String| Signal::Remark { name, text: String::new() };
    match signal {
        Signal::Edit { .. } => silent(signal.name().to_owned()),
        Signal::Flag { .. } => Signal::Flag { reason: NOT_KEPT.to_owned() },
        Signal::Remark { name, .. } => silent(name),
        other => other,
    }
}

/// Only judgements are left.
pub(crate) fn item(item: Item) -> Option<Item> {
    let Item::Feedback(said) = item else { return None };
    let mut said: Feedback = *said;
    said.verdict = match said.verdict {
        Verdict::Correction(text) => Verdict::Signal(signal(Signal::Edit { text })),
        Verdict::Signal(one) => Verdict::Signal(signal(one)),
        Verdict::Score(score) => Verdict::Score(score),
    };
    said.note = None;
    if let Some(details) = &mut said.details {
        details.label = None;
    }
    Some(Item::Feedback(Box::new(said)))
}
