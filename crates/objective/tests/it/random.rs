//! Random replies, and how close two numbers must be.

use rand::{Rng, SeedableRng, rngs::StdRng};
use understudy_objective::policy::{Advantage, PolicyCounts, Sample};

pub(crate) fn rng(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

/// Log-probabilities of a reply of `tokens` tokens.
pub(crate) fn log_probs(rng: &mut StdRng, tokens: usize) -> Vec<f64> {
    (0..tokens).map(|_| rng.random_range(-3.0..-0.05)).collect()
}

/// The same reply under a model that differs by up to `spread` per token.
pub(crate) fn near(rng: &mut StdRng, log_probs: &[f64], spread: f64) -> Vec<f64> {
    log_probs.iter().map(|lp| lp + rng.random_range(-spread..spread)).collect()
}

/// A sampled reply with all there is to know of it.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) log_probs: Vec<f64>,
    pub(crate) old: Vec<f64>,
    pub(crate) sampler: Vec<f64>,
    pub(crate) reference: Vec<f64>,
    pub(crate) mask: Vec<bool>,
    pub(crate) advantage: f64,
}

impl Reply {
    pub(crate) fn draw(rng: &mut StdRng) -> Self {
        let tokens = rng.random_range(1..9);
        let log_probs = log_probs(rng, tokens);
        let old = near(rng, &log_probs, 0.5);
        Self {
            sampler: near(rng, &old, 0.4),
            reference: near(rng, &log_probs, 0.6),
            mask: (0..tokens).map(|at| at == 0 || rng.random_bool(0.8)).collect(),
            advantage: rng.random_range(-1.5..1.5),
            log_probs,
            old,
        }
    }

    pub(crate) fn sample(&self) -> Sample<'_, f64> {
        Sample {
            log_probs: &self.log_probs,
            old: Some(&self.old),
            sampler: Some(&self.sampler),
            reference: Some(&self.reference),
            mask: Some(&self.mask),
            advantage: Advantage::Reply(self.advantage),
        }
    }

    pub(crate) fn trained(&self) -> usize {
        self.mask.iter().filter(|trained| **trained).count()
    }
}

/// The counts of a step of these replies in one micro-batch.
pub(crate) fn counts(replies: &[Reply]) -> PolicyCounts {
    let tokens = replies.iter().map(Reply::trained).sum();
    PolicyCounts { replies: replies.len(), tokens, micro_batch_tokens: tokens, micro_batches: 1 }
}

/// Fails unless both are within `tolerance`, relative to the expected where that is above 1.
pub(crate) fn assert_close(found: f64, expected: f64, tolerance: f64, what: &str) {
    let gap = (found - expected).abs();
    assert!(gap <= tolerance * expected.abs().max(1.0), "{what}: {found} is not {expected}");
}

pub(crate) fn assert_all_close(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: another number of tokens");
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_close(*found, *expected, tolerance, &format!("{what}, token {at}"));
    }
}
