//! What changes scores before temperature does.

use std::collections::{BTreeMap, BTreeSet};

use llguidance::toktrie::SimpleVob;
use understudy_inference::Sampling;

use super::{BadWords, Surroundings};

const NEVER: f32 = f32::NEG_INFINITY;

/// Edits of one request, and what of its tokens they depend on.
#[derive(Debug, Clone)]
pub(super) struct Edits {
    bias: BTreeMap<u32, f32>,
    allowed: Option<BTreeSet<u32>>,
    bad_words: Option<BadWords>,
    min_tokens: usize,
    ends: Vec<u32>,
    repetition: f32,
    frequency: f32,
    presence: f32,
    prompt: BTreeSet<u32>,
    /// How often each token is in the completion.
    counts: BTreeMap<u32, u32>,
}

impl Edits {
    /// None where the model's own scores are drawn from.
    pub(super) fn of(sampling: &Sampling, around: Surroundings<'_>) -> Option<Self> {
        if !sampling.edits_scores() {
            return None;
        }
        let repetition = sampling.repetition_penalty;
        let prompt = if repetition == 1.0 { &[][..] } else { around.prompt };
        Some(Self {
            bias: sampling.logit_bias.clone(),
            allowed: sampling.allowed_token_ids.as_ref().map(|ids| ids.iter().copied().collect()),
            bad_words: around.bad_words,
            min_tokens: sampling.min_tokens as usize,
            ends: around.ends,
            repetition,
            frequency: sampling.frequency_penalty,
            presence: sampling.presence_penalty,
            prompt: prompt.iter().copied().collect(),
            counts: BTreeMap::new(),
        })
    }

    pub(super) fn observe(&mut self, token: u32, bytes: &[u8]) {
        *self.counts.entry(token).or_default() += 1;
        if let Some(bad_words) = &mut self.bad_words {
            bad_words.observe(bytes);
        }
    }

    pub(super) fn permits(&self, token: u32) -> bool {
        self.allowed.as_ref().is_none_or(|allowed| allowed.contains(&token))
            && self.bad_words.as_ref().is_none_or(|words| !words.forbids(token))
    }

    /// Edits the scores of the token after the first `drawn`.
    pub(super) fn apply(&self, scores: &mut [f32], drawn: usize, mask: Option<&SimpleVob>) {
        for (token, bias) in &self.bias {
            change(scores, *token, |score| score + bias);
        }
        mask_out(scores, mask);
        if let Some(allowed) = &self.allowed {
            let kept: Vec<(u32, f32)> =
                allowed.iter().map(|token| (*token, scores[*token as usize])).collect();
            scores.fill(NEVER);
            for (token, score) in kept {
                scores[token as usize] = score;
            }
        }
        if let Some(bad_words) = &self.bad_words {
            bad_words.for_each_forbidden(|token| change(scores, token, |_| NEVER));
        }
        if drawn < self.min_tokens {
            self.ends.iter().for_each(|token| change(scores, *token, |_| NEVER));
        }
        self.penalise(scores);
    }

    /// As vLLM does it: repetition over prompt and completion, the others over the completion.
    fn penalise(&self, scores: &mut [f32]) {
        if self.repetition != 1.0 {
            let seen: BTreeSet<u32> =
                self.prompt.iter().chain(self.counts.keys()).copied().collect();
            for token in seen {
                let penalty = self.repetition;
                change(scores, token, |z| if z > 0.0 { z / penalty } else { z * penalty });
            }
        }
        if self.frequency != 0.0 || self.presence != 0.0 {
            for (token, count) in &self.counts {
                let off = self.frequency * *count as f32 + self.presence;
                change(scores, *token, |score| score - off);
            }
        }
    }
}

/// Leaves only the tokens a constraint allows; ids beyond what it knows are not allowed.
pub(super) fn mask_out(scores: &mut [f32], mask: Option<&SimpleVob>) {
    let Some(mask) = mask else { return };
    let known = mask.len().min(scores.len());
    for (token, score) in scores[..known].iter_mut().enumerate() {
        if !mask.is_allowed(token as u32) {
            *score = NEVER;
        }
    }
    scores[known..].fill(NEVER);
}

fn change(scores: &mut [f32], token: u32, to: impl Fn(f32) -> f32) {
    if let Some(score) = scores.get_mut(token as usize) {
        *score = to(*score);
    }
}
