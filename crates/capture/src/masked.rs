//! Everything, with placeholders in place of secrets and personal data.
//!
//! Placeholders have no numbers (`<EMAIL>`): what belongs together arrives in pieces, and one that
//! was masked alone has to be the same text as where it is quoted later.

use serde_json::Value;
use understudy_ingest::telemetry::{Feedback, Item, LogRecord, SpanRecord, Verdict};
use understudy_redact::{Policy, Redactor, without_numbers};
use understudy_trajectory::{Outcome, Signal, Step};

pub(crate) fn step(mut step: Step) -> Step {
    let before = (step.prompt.clone(), step.tools.clone(), step.reply.clone());
    for message in step.prompt.iter_mut().chain([&mut step.reply]) {
        *message = message.map_text(text);
    }
    for tool in &mut step.tools {
        *tool = json(tool);
    }
    for note in step.metadata.values_mut() {
        *note = text(note);
    }
    step.error = step.error.map(|why| text(&why));
    // Whoever has the vocabulary can read token ids.
    if (&before.0, &before.1, &before.2) != (&step.prompt, &step.tools, &step.reply) {
        step.tokens = None;
    }
    step
}

pub(crate) fn outcome(mut outcome: Outcome) -> Outcome {
    outcome.signal = signal(outcome.signal);
    outcome.note = outcome.note.map(|note| text(&note));
    if let Some(details) = &mut outcome.details {
        details.label = details.label.take().map(|label| text(&label));
    }
    outcome
}

fn signal(signal: Signal) -> Signal {
    match signal {
        Signal::Edit { text: edited } => Signal::Edit { text: text(&edited) },
        Signal::Flag { reason } => Signal::Flag { reason: text(&reason) },
        Signal::Remark { name, text: said } => Signal::Remark { name, text: text(&said) },
        other => other,
    }
}

pub(crate) fn item(item: Item) -> Item {
    match item {
        Item::Span(span) => Item::Span(Box::new(mask_span(*span))),
        Item::Log(log) => {
            let mut log = LogRecord { body: value("", &log.body), ..*log };
            log.attributes.iter_mut().for_each(|(key, said)| *said = value(key, said));
            Item::Log(Box::new(log))
        }
        Item::Feedback(said) => Item::Feedback(Box::new(mask_feedback(*said))),
        Item::Served(served) => Item::Served(Box::new(step(*served))),
    }
}

fn mask_span(mut span: SpanRecord) -> SpanRecord {
    span.name = text(&span.name);
    span.error = span.error.map(|why| text(&why));
    let events = span.events.iter_mut().flat_map(|event| &mut event.attributes);
    for (key, said) in span.attributes.iter_mut().chain(events) {
        *said = value(key, said);
    }
    span
}

fn mask_feedback(mut said: Feedback) -> Feedback {
    said.verdict = match said.verdict {
        Verdict::Correction(correct) => Verdict::Correction(text(&correct)),
        Verdict::Signal(one) => Verdict::Signal(signal(one)),
        Verdict::Score(score) => Verdict::Score(score),
    };
    said.note = said.note.map(|note| text(&note));
    if let Some(details) = &mut said.details {
        details.label = details.label.take().map(|label| text(&label));
    }
    said
}

/// A value of telemetry, leaf by leaf. What stands under the name of an id is one.
fn value(key: &str, said: &Value) -> Value {
    match said {
        Value::String(_) if is_id(key) => said.clone(),
        Value::String(said) => Value::String(text(said)),
        Value::Array(list) => list.iter().map(|one| value(key, one)).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(key, one)| (key.clone(), value(key, one))).collect()
        }
        Value::Null | Value::Bool(_) => said.clone(),
        // A number may be a card's, which only what stands around it tells.
        Value::Number(_) => {
            let alone = serde_json::json!({ key: said });
            json(&alone).get(key).cloned().unwrap_or(Value::Null)
        }
    }
}

/// `user.id`, `thread_id`, `id`: by these things are linked, and people forgotten.
fn is_id(key: &str) -> bool {
    key.rsplit(['.', '_']).next().is_some_and(|last| last.eq_ignore_ascii_case("id"))
}

/// JSON stays JSON of the same shape.
fn json(value: &Value) -> Value {
    serde_json::from_str(&text(&value.to_string())).unwrap_or(Value::Null)
}

fn text(said: &str) -> String {
    let masked = Redactor::new(Policy::Standard).masker().mask(said);
    without_numbers(&masked).into_owned()
}
