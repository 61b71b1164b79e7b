//! Answers that were given elsewhere, one a line: `{"id": "0001", "output": "…"}`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use understudy_message::{Message, ToolCall};

/// What one subject said to one case in one attempt, and what is known of it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedAnswer {
    pub id: String,
    /// Which of several attempts at the case; the first is 0.
    #[serde(default, skip_serializing_if = "is_first")]
    pub attempt: usize,
    #[serde(default)]
    pub output: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// All messages after the prompt, of an answer in several turns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Message>,
    /// What the environment held in the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Value>,
    /// What scorers of another program gave it, from 0 to 1, by their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub scores: BTreeMap<String, f64>,
    /// In millionths of a dollar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<u64>,
    /// Not measured if 0.
    #[serde(default)]
    pub latency_ms: f64,
    #[serde(default)]
    pub prompt_tokens: u32,
    #[serde(default)]
    pub completion_tokens: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl RecordedAnswer {
    pub fn new(id: impl Into<String>, output: impl Into<String>) -> Self {
        Self { id: id.into(), output: output.into(), ..Self::default() }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_first(attempt: &usize) -> bool {
    *attempt == 0
}
