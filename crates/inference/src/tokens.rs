//! The exact tokens of a completion, which training needs and nothing can restore later.

use serde::{Deserialize, Serialize};

use crate::Sampling;

/// Ids and log-probabilities as the sampler saw them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// The ids sent to the model, template included.
    pub prompt_ids: Vec<u32>,
    /// The ids sampled, the end-of-turn id included when it was sampled.
    pub completion_ids: Vec<u32>,
    /// log softmax(logits / T) of each completion id, T = 1 when decoding is greedy.
    pub sampling_logprobs: Vec<f32>,
    /// Places in the completion of tokens that a constraint left no choice about: they were not
    /// drawn, and say nothing about whoever answered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forced: Vec<u32>,
    pub sampling: Sampling,
    /// False when the ids were not drawn from the recorded distribution (greedy, top-p, top-k):
    /// such a sample must not train by policy gradient.
    pub logprobs_exact: bool,
    /// Ids mean something only together with these three.
    pub base_digest: String,
    pub tokenizer_digest: String,
    pub template_digest: String,
}
