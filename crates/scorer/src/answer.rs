//! What is scored.

use std::collections::BTreeMap;

use serde_json::Value;
use understudy_message::{Message, ToolCall};
use understudy_reward::calls::{Call, MalformedCall, calls_of};

/// What a subject said to one case, and what it took.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Answer<'a> {
    /// The text of the last reply.
    pub text: &'a str,
    /// The calls of the reply, where the backend took them out of the text.
    pub calls: &'a [ToolCall],
    /// All messages after the prompt, for cases that take several turns; empty for a single reply.
    pub steps: &'a [Message],
    /// What the environment holds after the last step, where there was one.
    pub state: Option<&'a Value>,
    /// What another program's scorers gave it, by their names, where that was recorded.
    pub scores: Option<&'a BTreeMap<String, f64>>,
    pub measured: Measured,
}

/// What an answer took; unknown things are none, not 0.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Measured {
    pub latency_ms: Option<f64>,
    pub completion_tokens: Option<u32>,
    /// In millionths of a dollar.
    pub cost: Option<u64>,
}

impl<'a> Answer<'a> {
    pub fn of_text(text: &'a str) -> Self {
        Self { text, ..Self::default() }
    }

    /// Every tool call in order, of all turns or of the reply, malformed ones in their places.
    pub fn tool_calls(&self) -> Vec<Result<Call, MalformedCall>> {
        if !self.steps.is_empty() {
            return self.steps.iter().flat_map(calls_of).collect();
        }
        let mut reply = Message::assistant(self.text);
        reply.tool_calls = self.calls.to_vec();
        calls_of(&reply)
    }
}
