//! How tokens are drawn, and when to stop.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::InferenceError;

/// Texts that end a completion, and the bytes of each; every piece of text is searched for all.
const MOST_STOPS: usize = 16;
const LONGEST_STOP: usize = 1024;

/// Texts that may not come, and the bytes of each: the vocabulary is searched for all of them, and
/// every step looks how far each has come.
const MOST_BAD_WORDS: usize = 128;
const LONGEST_BAD_WORD: usize = 256;

/// Below this a temperature is none: scores divided by it would not fit a number any more.
const COLDEST: f32 = 1e-5;

/// Everything that shapes which tokens come. Two requests with equal sampling, prompt, weights and
/// seed get equal tokens, whatever else is in the batch.
///
/// Applied in this order: bias, constraint and allowed tokens, minimum length, penalties,
/// temperature, min-p, top-k, top-p, one draw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sampling {
    /// 0 is greedy, and so is what lies below 1e-5.
    pub temperature: f32,
    /// Nucleus share in (0, 1]; 1 is off.
    pub top_p: f32,
    /// How many of the likeliest tokens to draw from; 0 is off.
    pub top_k: u32,
    /// Least probability relative to the likeliest token's, in [0, 1]; 0 is off.
    #[serde(skip_serializing_if = "is_zero")]
    pub min_p: f32,
    /// Taken off the score of every token already generated, in [-2, 2].
    #[serde(skip_serializing_if = "is_zero")]
    pub presence_penalty: f32,
    /// Taken off once for each time a token was generated, in [-2, 2].
    #[serde(skip_serializing_if = "is_zero")]
    pub frequency_penalty: f32,
    /// Divides positive and multiplies negative scores of tokens in prompt or completion, in
    /// (0, 2]; 1 is off.
    #[serde(skip_serializing_if = "is_one")]
    pub repetition_penalty: f32,
    /// Added to the scores of these ids.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub logit_bias: BTreeMap<u32, f32>,
    /// Only these ids may come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_token_ids: Option<Vec<u32>>,
    /// Texts that may not come.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bad_words: Vec<String>,
    /// What the completion must be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub constraint: Option<Constraint>,
    pub seed: Option<u64>,
    pub max_tokens: u32,
    /// No stop before this many tokens.
    #[serde(skip_serializing_if = "is_none_wanted")]
    pub min_tokens: u32,
    /// Text that ends the completion and is not part of it.
    pub stop: Vec<String>,
    /// Ids that end the completion, beside the model's own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stop_token_ids: Vec<u32>,
    /// Goes on past the model's own end of a turn.
    #[serde(skip_serializing_if = "is_false")]
    pub ignore_eos: bool,
    /// Leaves the stop string at the end of the text.
    #[serde(skip_serializing_if = "is_false")]
    pub include_stop: bool,
    /// Shows markers such as `<|im_end|>` in the text.
    #[serde(skip_serializing_if = "is_false")]
    pub show_special: bool,
}

/// A language the completion must belong to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Constraint {
    /// Any JSON object.
    JsonObject,
    /// JSON that this schema accepts.
    JsonSchema(Value),
    Regex(String),
    /// Exactly one of these.
    Choice(Vec<String>),
    /// A context-free grammar in Lark's notation.
    Grammar(String),
}

impl Default for Sampling {
    /// OpenAI's defaults: temperature 1, nothing cut off, nothing penalised.
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            repetition_penalty: 1.0,
            logit_bias: BTreeMap::new(),
            allowed_token_ids: None,
            bad_words: Vec::new(),
            constraint: None,
            seed: None,
            max_tokens: 256,
            min_tokens: 0,
            stop: Vec::new(),
            stop_token_ids: Vec::new(),
            ignore_eos: false,
            include_stop: false,
            show_special: false,
        }
    }
}

impl Sampling {
    /// The likeliest token every time: what evaluation and the demo use.
    pub fn greedy(max_tokens: u32) -> Self {
        Self { temperature: 0.0, max_tokens, ..Self::default() }
    }

    /// Whether the likeliest token comes every time.
    pub fn is_greedy(&self) -> bool {
        self.temperature < COLDEST
    }

    /// Whether the recorded log-probabilities are those of the distribution sampled from, so that
    /// the sample may train by policy gradient: no truncation, no edited scores, and a temperature
    /// to divide by.
    pub fn is_exact(&self) -> bool {
        !self.is_greedy()
            && self.top_p >= 1.0
            && self.top_k == 0
            && self.min_p == 0.0
            && !self.edits_scores()
    }

    /// Whether scores are changed before temperature is applied.
    pub fn edits_scores(&self) -> bool {
        self.presence_penalty != 0.0
            || self.frequency_penalty != 0.0
            || self.repetition_penalty != 1.0
            || !self.logit_bias.is_empty()
            || self.allowed_token_ids.is_some()
            || !self.bad_words.is_empty()
            || self.constraint.is_some()
            || self.min_tokens > 0
    }

    pub fn validate(&self) -> Result<(), InferenceError> {
        within("temperature", self.temperature, 0.0, 2.0)?;
        within("min_p", self.min_p, 0.0, 1.0)?;
        within("presence_penalty", self.presence_penalty, -2.0, 2.0)?;
        within("frequency_penalty", self.frequency_penalty, -2.0, 2.0)?;
        let wrong = |field, why: &str| Err(InferenceError::invalid(field, why));
        if !self.top_p.is_finite() || self.top_p <= 0.0 || self.top_p > 1.0 {
            return wrong("top_p", "must be above 0 and at most 1");
        }
        if !self.repetition_penalty.is_finite()
            || self.repetition_penalty <= 0.0
            || self.repetition_penalty > 2.0
        {
            return wrong("repetition_penalty", "must be above 0 and at most 2");
        }
        if self.max_tokens == 0 {
            return wrong("max_tokens", "must be at least 1");
        }
        if self.min_tokens > self.max_tokens {
            return wrong("min_tokens", "must be at most max_tokens");
        }
        texts("stop", &self.stop, MOST_STOPS, LONGEST_STOP)?;
        texts("bad_words", &self.bad_words, MOST_BAD_WORDS, LONGEST_BAD_WORD)?;
        if self.logit_bias.values().any(|bias| !(-100.0..=100.0).contains(bias)) {
            return wrong("logit_bias", "must hold numbers between -100 and 100");
        }
        if self.allowed_token_ids.as_ref().is_some_and(Vec::is_empty) {
            return wrong("allowed_token_ids", "must hold at least one id");
        }
        Ok(())
    }
}

fn within(field: &'static str, value: f32, least: f32, most: f32) -> Result<(), InferenceError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(InferenceError::invalid(field, format!("must lie between {least} and {most}")))
}

fn texts(
    field: &'static str,
    texts: &[String],
    most: usize,
    longest: usize,
) -> Result<(), InferenceError> {
    if texts.len() <= most && texts.iter().all(|text| (1..=longest).contains(&text.len())) {
        return Ok(());
    }
    let why = format!("must be at most {most} non-empty strings of at most {longest} bytes");
    Err(InferenceError::invalid(field, why))
}

// serde hands references to these.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for this signature")]
fn is_zero(value: &f32) -> bool {
    *value == 0.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for this signature")]
fn is_one(value: &f32) -> bool {
    *value == 1.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for this signature")]
fn is_none_wanted(value: &u32) -> bool {
    *value == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for this signature")]
fn is_false(value: &bool) -> bool {
    !*value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_asked_for_is_not_written_and_reads_back() {
        let plain = Sampling { seed: Some(7), ..Sampling::greedy(3) };
        let text = serde_json::to_string(&plain).unwrap();
        let expected =
            r#"{"temperature":0.0,"top_p":1.0,"top_k":0,"seed":7,"max_tokens":3,"stop":[]}"#;
        assert_eq!(text, expected, "what journals already hold");
        assert_eq!(serde_json::from_str::<Sampling>(&text).unwrap(), plain);
    }

    #[test]
    fn each_field_has_its_limits() {
        let wrong = |change: &dyn Fn(&mut Sampling), field: &str| {
            let mut sampling = Sampling::default();
            change(&mut sampling);
            let text = sampling.validate().unwrap_err().to_string();
            assert!(text.contains(field), "{text}");
        };
        assert!(Sampling::default().validate().is_ok());
        wrong(&|s| s.temperature = f32::NAN, "temperature");
        wrong(&|s| s.min_p = 1.5, "min_p");
        wrong(&|s| s.presence_penalty = -3.0, "presence_penalty");
        wrong(&|s| s.frequency_penalty = f32::INFINITY, "frequency_penalty");
        wrong(&|s| s.repetition_penalty = 0.0, "repetition_penalty");
        wrong(&|s| s.top_p = 0.0, "top_p");
        wrong(&|s| s.max_tokens = 0, "max_tokens");
        wrong(&|s| s.min_tokens = 300, "min_tokens");
        wrong(&|s| s.stop = vec![String::new()], "stop");
        wrong(&|s| s.stop = vec!["x".repeat(1025)], "stop");
        wrong(&|s| s.stop = vec!["x".to_owned(); 17], "stop");
        wrong(&|s| s.bad_words = vec![String::new()], "bad_words");
        wrong(&|s| s.bad_words = vec!["x".repeat(257)], "bad_words");
        wrong(&|s| s.bad_words = vec!["x".to_owned(); 129], "bad_words");
        let most = Sampling {
            stop: vec!["x".repeat(1024); 16],
            bad_words: vec!["x".repeat(256); 128],
            ..Sampling::default()
        };
        assert!(most.validate().is_ok());
        wrong(&|s| s.logit_bias = [(1, 101.0)].into(), "logit_bias");
        wrong(&|s| s.allowed_token_ids = Some(Vec::new()), "allowed_token_ids");
    }

    #[test]
    fn edited_or_cut_distributions_are_not_exact() {
        assert!(Sampling::default().is_exact());
        assert!(!Sampling::greedy(1).is_exact());
        let edited = Sampling { min_tokens: 1, ..Sampling::default() };
        assert!(!edited.is_exact());
        let constrained =
            Sampling { constraint: Some(Constraint::JsonObject), ..Sampling::default() };
        assert!(!constrained.is_exact());
    }
}
