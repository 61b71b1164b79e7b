//! What the trainer reads: one example a line, in TRL's column names.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use understudy_message::Message;

/// Learn to say `completion` after `prompt`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SftExample {
    pub prompt: Vec<Message>,
    /// One assistant message; a list because that is TRL's conversational form.
    pub completion: Vec<Message>,
    /// Definitions of the tools that could be called, in the OpenAI form: part of the prompt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Value>,
    pub origin: Origin,
}

/// Learn to prefer `chosen` over `rejected` after `prompt`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairExample {
    pub prompt: Vec<Message>,
    pub chosen: Vec<Message>,
    pub rejected: Vec<Message>,
    /// Definitions of the tools that could be called, in the OpenAI form: part of the prompt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Value>,
    /// By how much, between 0 and 1: a slight edit says less than one of a third of the words.
    /// Absent where nobody can tell, and from versions of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
    pub origin: Origin,
}

/// Whether `completion` was wanted after `prompt`: learning from single judgements (KTO).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelExample {
    pub prompt: Vec<Message>,
    pub completion: Vec<Message>,
    pub label: bool,
    /// Between 0 and 1, as the reward policy derived it; the label is on its side of a half.
    pub reward: f64,
    /// How much the judgement counts, between 0 and 1: an inferred one counts less.
    pub weight: f64,
    /// Definitions of the tools that could be called, in the OpenAI form: part of the prompt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Value>,
    pub origin: Origin,
}

/// Something that was asked, without an answer: what a policy gradient lets the model answer anew.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromptExample {
    pub prompt: Vec<Message>,
    /// Definitions of the tools that could be called, in the OpenAI form: part of the prompt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Value>,
    pub origin: Origin,
}

/// Several replies to the same prompt ids, as a server of ours recorded them: what a policy gradient
/// can learn from without sampling anew.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupExample {
    /// The ids every attempt continues, template included.
    pub prompt_ids: Vec<u32>,
    pub attempts: Vec<LoggedAttempt>,
    pub origin: Origin,
}

/// One recorded reply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoggedAttempt {
    pub completion_ids: Vec<u32>,
    /// log μ of every completion id under the distribution it was drawn from; empty when that is
    /// not known exactly.
    pub sampling_logprobs: Vec<f32>,
    pub truncated: bool,
    /// `null` is no opinion.
    pub reward: Option<f64>,
}

/// Which recorded facts an example was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The trajectory, which never straddles splits.
    pub trajectory: String,
    /// The steps used: one, or both members of a pair.
    pub steps: Vec<String>,
    /// The outcome kinds that qualified it: `accept`, `edit`, `regenerate`, …
    pub because: Vec<String>,
}

/// Which part of a dataset version a row belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    Train,
    Dev,
}

impl Split {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Dev => "dev",
        }
    }
}
