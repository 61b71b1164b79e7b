//! What the makers of a model suggest where a request says nothing of how to draw.

use crate::{InferenceError, Sampling};

/// As a `generation_config.json` has it; `None` leaves `OpenAI`'s default.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SamplingDefaults {
    pub temperature: Option<f32>,
    pub top_p: Option<f32>,
    pub top_k: Option<u32>,
    pub min_p: Option<f32>,
    pub repetition_penalty: Option<f32>,
    /// The most tokens of a completion whose request names no limit; it only ever makes that of an
    /// endpoint smaller.
    pub max_tokens: Option<u32>,
}

impl SamplingDefaults {
    /// What they stand in for.
    pub const FIELDS: [&'static str; 6] =
        ["temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens"];

    /// Stands in for each field that the request left out.
    pub fn fill(&self, sampling: &mut Sampling, left_out: &[&str]) {
        let or = |name, suggested: Option<f32>, asked: &mut f32| {
            if let Some(value) = suggested.filter(|_| left_out.contains(&name)) {
                *asked = value;
            }
        };
        or("temperature", self.temperature, &mut sampling.temperature);
        or("top_p", self.top_p, &mut sampling.top_p);
        or("min_p", self.min_p, &mut sampling.min_p);
        or("repetition_penalty", self.repetition_penalty, &mut sampling.repetition_penalty);
        if let Some(value) = self.top_k.filter(|_| left_out.contains(&"top_k")) {
            sampling.top_k = value;
        }
        if let Some(most) = self.max_tokens.filter(|_| left_out.contains(&"max_tokens")) {
            sampling.max_tokens = sampling.max_tokens.min(most);
        }
    }

    /// Names what no request could ask for either.
    pub fn validate(&self) -> Result<(), InferenceError> {
        let mut sampling = Sampling::default();
        self.fill(&mut sampling, &Self::FIELDS);
        sampling.validate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUGGESTED: SamplingDefaults = SamplingDefaults {
        temperature: Some(0.6),
        top_p: Some(0.95),
        top_k: Some(20),
        min_p: Some(0.05),
        repetition_penalty: Some(1.1),
        max_tokens: Some(64),
    };

    #[test]
    fn what_a_request_says_stands_and_what_it_leaves_out_is_filled_in() {
        let asked = Sampling { temperature: 1.0, top_k: 0, ..Sampling::default() };
        let mut filled = asked.clone();
        SUGGESTED.fill(&mut filled, &["top_p", "min_p", "repetition_penalty"]);
        let expected =
            Sampling { top_p: 0.95, min_p: 0.05, repetition_penalty: 1.1, ..asked.clone() };
        assert_eq!(filled, expected);
        let mut all = asked.clone();
        SUGGESTED.fill(&mut all, &SamplingDefaults::FIELDS);
        assert_eq!((all.temperature, all.top_k, all.max_tokens), (0.6, 20, 64));
        let mut short = Sampling { max_tokens: 16, ..asked.clone() };
        SUGGESTED.fill(&mut short, &SamplingDefaults::FIELDS);
        assert_eq!(short.max_tokens, 16, "an endpoint's own limit is not widened");
        let mut none = asked.clone();
        SamplingDefaults::default().fill(&mut none, &SamplingDefaults::FIELDS);
        assert_eq!(none, asked);
    }

    #[test]
    fn what_no_request_may_ask_for_is_no_default_either() {
        SUGGESTED.validate().unwrap();
        for (wrong, field) in [
            (SamplingDefaults { temperature: Some(9.0), ..SUGGESTED }, "temperature"),
            (SamplingDefaults { top_p: Some(0.0), ..SUGGESTED }, "top_p"),
            (SamplingDefaults { max_tokens: Some(0), ..SUGGESTED }, "max_tokens"),
        ] {
            let why = wrong.validate().unwrap_err().to_string();
            assert!(why.contains(field), "{why}");
        }
    }
}
