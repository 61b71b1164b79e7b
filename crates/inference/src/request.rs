//! What is asked of a model.

use serde::{Deserialize, Serialize};
use understudy_message::Message;

use crate::InferenceError;

/// One generation.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateRequest {
    pub prompt: Prompt,
    /// The alias of a loaded adapter; `None` is the untouched base. An unknown alias is an error,
    /// never the base.
    pub adapter: Option<String>,
    pub sampling: Sampling,
}

/// What the completion continues.
#[derive(Debug, Clone, PartialEq)]
pub enum Prompt {
    /// Rendered through the base model's chat template with a generation prompt.
    Messages(Vec<Message>),
    /// Exact ids, as rollouts and replays need.
    Tokens(Vec<u32>),
}

/// How tokens are drawn, and when to stop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// 0 is greedy.
    pub temperature: f32,
    /// Nucleus share in (0, 1]; 1 is off.
    pub top_p: f32,
    /// How many of the likeliest tokens to draw from; 0 is off.
    pub top_k: u32,
    pub seed: Option<u64>,
    pub max_tokens: u32,
    /// Text that ends the completion and is not part of it.
    #[serde(default)]
    pub stop: Vec<String>,
}

impl Sampling {
    /// The likeliest token every time: what evaluation and the demo use.
    pub fn greedy(max_tokens: u32) -> Self {
        let stop = Vec::new();
        Self { temperature: 0.0, top_p: 1.0, top_k: 0, seed: None, max_tokens, stop }
    }

    /// Whether the recorded log-probabilities are those of the distribution sampled from, so that
    /// the sample may train by policy gradient: no truncation, and a temperature to divide by.
    pub fn is_exact(&self) -> bool {
        self.temperature > 0.0 && self.top_p >= 1.0 && self.top_k == 0
    }

    pub fn validate(&self) -> Result<(), InferenceError> {
        let wrong = |field, why: &str| Err(InferenceError::invalid(field, why));
        if !self.temperature.is_finite() || !(0.0..=2.0).contains(&self.temperature) {
            return wrong("temperature", "must lie between 0 and 2");
        }
        if !self.top_p.is_finite() || self.top_p <= 0.0 || self.top_p > 1.0 {
            return wrong("top_p", "must be above 0 and at most 1");
        }
        if self.max_tokens == 0 {
            return wrong("max_tokens", "must be at least 1");
        }
        if self.stop.len() > 16 || self.stop.iter().any(String::is_empty) {
            return wrong("stop", "must be at most 16 non-empty strings");
        }
        Ok(())
    }
}
