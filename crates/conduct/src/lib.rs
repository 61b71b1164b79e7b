//! What a reply did, apart from what it said: whether its tool calls can be carried out, whether it
//! is the JSON that was asked for, whether it asked back, declined or was unsure.
//!
//! Two readers need this of every reply of a student: the gateway, which may have the teacher answer
//! in its stead ([`cues`]), and the canary's guards, which compare how often each arm does it
//! ([`marks`]).
//!
//! Guarantees: pure and quick (a reply without tools and formats costs a look at its text); a tool's
//! schema that cannot be read is no fault of the reply; the same reply gets the same marks anywhere.
//!
//! Never: judges whether a reply is right, repairs one, or fetches a schema.

mod agreement;
mod calls;
mod confidence;
mod question;

use serde_json::Value;
use understudy_inference::{Constraint, FinishReason};
use understudy_manifest::{Cue, Escalate};
use understudy_message::Message;
use understudy_scorer::text::is_refusal;
use understudy_trajectory::{Confidence, Marks};

pub use agreement::agrees;
pub use confidence::confidence;

/// What a request allowed its reply to do.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// OpenAI tool definitions.
    pub tools: &'a [Value],
    /// What the text had to be, if it was no free text; a grammar for tools is not meant.
    pub format: Option<&'a Constraint>,
}

/// What a finished reply did.
pub fn marks(asked: Asked<'_>, reply: &Message, finish: FinishReason) -> Marks {
    let text = reply.text();
    let called = !reply.tool_calls.is_empty();
    let empty = !called && text.trim().is_empty();
    // What is cut off was not finished, so it cannot be malformed.
    let cut_off = finish == FinishReason::Length;
    Marks {
        invalid_tools: calls::any_is_invalid(asked.tools, &reply.tool_calls)
            || (!cut_off && calls::left_in_text(asked.tools, &text)),
        invalid_format: !called
            && !cut_off
            && asked.format.is_some_and(|format| !keeps(format, &text)),
        question: !called && question::asks_back(&text),
        refusal: !called && is_refusal(&text),
        empty,
        cut_off,
    }
}

/// Which of the cues that were named speak against a reply, in their order; `asked` is whether the
/// client wants the teacher in any case.
pub fn cues(
    rules: &Escalate,
    marks: Marks,
    confidence: Option<Confidence>,
    asked: bool,
) -> Vec<Cue> {
    let below = |limit: Option<f64>, of: fn(&Confidence) -> f64| {
        limit.zip(confidence).is_some_and(|(limit, confidence)| of(&confidence) < limit)
    };
    let unsure = below(rules.min_log_prob, |confidence| confidence.min_log_prob)
        || below(rules.mean_log_prob, |confidence| confidence.mean_log_prob);
    let speaks = |cue: Cue| match cue {
        Cue::InvalidTools => marks.invalid_tools,
        Cue::InvalidFormat => marks.invalid_format,
        Cue::Refusal => marks.refusal,
        Cue::Empty => marks.empty,
        Cue::LowConfidence => unsure,
        Cue::Asked => asked,
    };
    rules.on.iter().copied().filter(|cue| speaks(*cue)).collect()
}

/// Whether a text is what it had to be. A regular expression, a choice or a grammar bound the
/// student as it wrote, and nobody else can be held to them.
fn keeps(format: &Constraint, text: &str) -> bool {
    let parsed = || serde_json::from_str::<Value>(text.trim()).ok();
    match format {
        Constraint::JsonObject => parsed().is_some_and(|value| value.is_object()),
        Constraint::JsonSchema(schema) => {
            let Some(value) = parsed() else { return false };
            jsonschema::validator_for(schema).map_or(true, |schema| schema.is_valid(&value))
        }
        Constraint::Regex(_) | Constraint::Choice(_) | Constraint::Grammar(_) => true,
    }
}

#[cfg(test)]
mod tests;
