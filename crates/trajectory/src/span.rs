//! One operation as somebody else's telemetry told it: a model call, a tool run, a retrieval, or a
//! frame around these.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use understudy_ident::StepId;

/// One operation. Times are nanoseconds since 1970 by the clock of whoever reported it, 0 when it
/// told none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Span {
    /// Follows from the source's own ids, so that the same operation has it on every delivery.
    pub id: StepId,
    /// What it happened within, as far as that has arrived. A job that runs several conversations
    /// is in none of them, so this may be a span of another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<StepId>,
    pub name: String,
    pub trace_id: String,
    pub span_id: String,
    /// How its source spoke, `openinference` say.
    pub dialect: String,
    pub started_ns: u64,
    pub ended_ns: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    pub body: SpanBody,
    /// Attributes that no rule of the mapper reads, and framework state, as they came.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, Value>,
}

impl Span {
    /// Whether it stands for what happens inside it, and does nothing itself.
    pub fn holds_others(&self) -> bool {
        matches!(self.body, SpanBody::Frame { .. })
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum SpanBody {
    Model(Box<ModelCall>),
    Tool(ToolRun),
    Retrieval(Retrieval),
    Frame { role: FrameRole },
}

/// One call of a model. Messages are places in [`crate::Conversation::messages`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ModelCall {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The model that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested: Option<String>,
    /// The model that the server said it was: ours names the adapter here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub responded: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_response_id: Option<String>,
    /// The call whose input and output this one's input begins with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continues: Option<StepId>,
    /// The step our own server recorded for this response. It has the exact tokens, and is the one
    /// to train on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub captured_as: Option<StepId>,
    /// Sampling settings under their OpenAI names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, Value>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Value>,
    pub input: Vec<usize>,
    /// One message a choice.
    pub output: Vec<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish: Option<Finish>,
    pub usage: CallUsage,
    /// Until the first token, in nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_token_ns: Option<u64>,
    pub content: Fidelity,
}

/// Why the model stopped, spelled one way for all sources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    Stop,
    Length,
    ToolCall,
    ContentFilter,
    Error,
    /// A reason that is none of these, as it came.
    Other(String),
}

/// Token counts, `None` where the source told none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CallUsage {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<u64>,
}

/// How much of what was said the source told. Only `Full` may be trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fidelity {
    Full,
    /// Some of it was masked before it was sent.
    Hidden,
    /// Cut off on the way: whole leading messages were saved, the rest is gone.
    Truncated,
    /// Kept by the source elsewhere; its addresses are in [`Span::extra`].
    References,
    #[default]
    Absent,
}

/// One run of a tool.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ToolRun {
    pub name: String,
    /// The `id` of the model's tool call, found by name and arguments where the source told none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<String>,
    /// Canonical JSON, or the text that was no JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// False when no span told of the run, and it was read off the call and the answer to it.
    pub observed: bool,
}

/// One search of a store.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Retrieval {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// As they came, best first.
    pub documents: Vec<Value>,
}

/// What a span that only holds others stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FrameRole {
    Agent,
    Workflow,
    Turn,
    Chain,
    Handoff,
    Plan,
    Embedding,
    Rerank,
    Guardrail,
    Evaluator,
    Memory,
    Other,
}
