//! Replies and stream chunks, in the order clients rely on.

mod chat;
mod completion;
mod generate;
mod scores;

use serde_json::{Value, json};
use understudy_inference::{Completion, Delta, ScoredToken, Served, StopReason, Usage};

use crate::ask::StreamOptions;

pub use chat::ChatWriter;
pub use completion::{CompletionWriter, ShownPrompt};
pub use generate::GenerateWriter;

/// What is the same in a reply and in each chunk of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyHead {
    pub id: String,
    /// Seconds since 1970.
    pub created: i64,
    /// What answered: adapter alias and generation, the base, or the teacher's model.
    pub model: String,
    pub fingerprint: String,
    /// The adapter's content digest.
    pub generation: Option<String>,
}

/// A whole generation of one choice.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub completion: Completion,
    /// The tokens drawn, as they came in deltas.
    pub scored: Vec<ScoredToken>,
}

/// Writes one reply: `whole`, or in chunks, which are `open` once, then for each choice any number of
/// `delta` and one `done`, then `end` once. `[DONE]` is the transport's.
pub trait ReplyWriter: Send {
    /// One answer per choice.
    fn whole(&mut self, answers: &[Answer]) -> Value;
    fn open(&mut self) -> Vec<Value>;
    fn delta(&mut self, choice: usize, delta: &Delta) -> Vec<Value>;
    fn done(&mut self, choice: usize, completion: &Completion) -> Vec<Value>;
    fn end(&mut self) -> Vec<Value>;
}

/// What a reply of these weights is reproducible under. `identity` is the student's own, where it
/// answers and knows.
pub fn fingerprint(served: &Served, identity: Option<&str>) -> String {
    let weights = served.adapter.as_ref().map_or("base", |adapter| short(&adapter.generation));
    let made_by = env!("CARGO_PKG_VERSION");
    let held = identity.map(|identity| format!("_{}", short(identity))).unwrap_or_default();
    format!("fp_{}_{weights}_{made_by}{held}", served.base)
}

fn short(generation: &str) -> &str {
    generation.get(..12).unwrap_or(generation)
}

/// Tokens so far, over all choices.
#[derive(Debug, Clone, Default)]
struct Spent {
    /// Prompt tokens, by prompt.
    prompts: Vec<u32>,
    cached: Vec<u32>,
    /// Completion tokens, by choice.
    choices: Vec<u32>,
}

impl Spent {
    fn new(prompts: usize, choices: usize) -> Self {
        Self { prompts: vec![0; prompts], cached: vec![0; prompts], choices: vec![0; choices] }
    }

    /// The exact count at a choice's end; until then deltas are counted.
    fn settle(&mut self, prompt: usize, choice: usize, usage: Usage) {
        self.prompts[prompt] = usage.prompt_tokens;
        // What one choice of a prompt finds cached may be what another of it has just written.
        self.cached[prompt] = self.cached[prompt].max(usage.cached_tokens);
        self.choices[choice] = usage.completion_tokens;
    }

    fn to_json(&self) -> Value {
        let sum = |counts: &[u32]| counts.iter().map(|count| u64::from(*count)).sum::<u64>();
        let (prompt, completion) = (sum(&self.prompts), sum(&self.choices));
        json!({
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": sum(&self.cached)},
            "completion_tokens_details": {"reasoning_tokens": 0},
        })
    }

    /// What a chunk with choices says about usage; `None` leaves the field out.
    fn running(&self, stream: Option<StreamOptions>) -> Option<Value> {
        let options = stream?;
        match options {
            StreamOptions { continuous: true, .. } => Some(self.to_json()),
            StreamOptions { usage: true, .. } => Some(Value::Null),
            StreamOptions { .. } => None,
        }
    }
}

fn stop_reason(reason: Option<&StopReason>) -> Value {
    match reason {
        None => Value::Null,
        Some(StopReason::Text(text)) => json!(text),
        Some(StopReason::Token(id)) => json!(id),
        Some(StopReason::Deadline) => json!("deadline"),
    }
}

/// Which weights drew which tokens. A request keeps one generation, so there is one span.
fn weight_versions(completion: &Completion) -> Value {
    let served = &completion.served;
    let version = served.adapter.as_ref().map_or(&served.base, |adapter| &adapter.generation);
    json!([{"version": version, "start": 0, "end": completion.usage.completion_tokens}])
}

fn ids(scored: &[ScoredToken]) -> Vec<u32> {
    scored.iter().map(|token| token.id).collect()
}

#[cfg(test)]
mod tests;
