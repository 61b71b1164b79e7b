//! Recorded replies that may share their prompt's ids, kept small while steps arrive one by one.
//!
//! Whether a step shares its prompt is known only when the last one came, so every step that our
//! own engine answered keeps its completion: 8 bytes a token (an id and a log-probability) and a few
//! hundred bytes besides. Prompt ids, which are most of a record, are kept only once the second step
//! with the same digest brings them again, and then once for all of its attempts.

use std::collections::{BTreeMap, btree_map::Entry};

use serde::{Deserialize, Serialize};
use understudy_ident::Digest;
use understudy_inference::{FinishReason, TokenRecord};
use understudy_trajectory::Step;

use crate::{
    DatasetError,
    spill::{Place, Spill},
};

/// One recorded reply, without its prompt.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Attempt {
    /// Of the prompt ids.
    pub(crate) prompt: Digest,
    pub(crate) sampler: Sampler,
    pub(crate) completion_ids: Vec<u32>,
    /// Empty unless every one is exact.
    pub(crate) log_probs: Vec<f32>,
    pub(crate) truncated: bool,
}

/// What must agree within a group: ids mean something only together with the digests, and a
/// probability only at its temperature.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Sampler {
    pub(crate) model: Model,
    temperature_bits: u32,
}

/// The base, tokenizer and template digests.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Model([String; 3]);

/// The prompts seen so far.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    /// Where the ids of those lie that two steps share.
    prompts: BTreeMap<Digest, Option<Place>>,
}

impl Attempts {
    /// Takes from a new step what a group needs of it, if it can be in one.
    pub(crate) fn take(
        &mut self,
        step: &mut Step,
        spill: &Spill,
    ) -> Result<Option<Attempt>, DatasetError> {
        let Some(tokens) = step.tokens.take() else { return Ok(None) };
        let is_text = step.prompt.iter().all(|message| message.content.is_text_only());
        // A failed or aborted reply ends where its client or server gave up, not where the model did.
        let is_sample = step.error.is_none() && step.finish_reason != FinishReason::Aborted;
        let is_empty = tokens.prompt_ids.is_empty() || tokens.completion_ids.is_empty();
        if !is_sample || is_empty || step.prompt.is_empty() || !is_text {
            return Ok(None);
        }
        Ok(Some(Attempt {
            prompt: self.remember(&tokens.prompt_ids, spill)?,
            sampler: sampler(&tokens),
            log_probs: exact_log_probs(&tokens),
            truncated: step.finish_reason == FinishReason::Length,
            completion_ids: tokens.completion_ids,
        }))
    }

    /// The ids of every prompt that at least two steps answered.
    pub(crate) fn shared(self) -> BTreeMap<Digest, Place> {
        self.prompts.into_iter().filter_map(|(digest, ids)| Some((digest, ids?))).collect()
    }

    fn remember(&mut self, ids: &[u32], spill: &Spill) -> Result<Digest, DatasetError> {
        let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        let digest = Digest::of(&bytes);
        match self.prompts.entry(digest) {
            Entry::Vacant(place) => drop(place.insert(None)),
            Entry::Occupied(mut known) if known.get().is_none() => {
                known.insert(Some(spill.push_value(&ids)?));
            }
            Entry::Occupied(_) => {}
        }
        Ok(digest)
    }
}

fn sampler(tokens: &TokenRecord) -> Sampler {
    let digests = [&tokens.base_digest, &tokens.tokenizer_digest, &tokens.template_digest];
    Sampler {
        model: Model(digests.map(String::clone)),
        temperature_bits: tokens.sampling.temperature.to_bits(),
    }
}

/// log μ of every completion id, or nothing where any of it is not known exactly: a part would
/// pass for the whole.
fn exact_log_probs(tokens: &TokenRecord) -> Vec<f32> {
    let log_probs = &tokens.sampling_logprobs;
    let is_exact = tokens.logprobs_exact
        && log_probs.len() == tokens.completion_ids.len()
        && log_probs.iter().all(|log_prob| log_prob.is_finite());
    if is_exact { log_probs.clone() } else { Vec::new() }
}
