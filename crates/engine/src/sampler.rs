//! Drawing a token from scores.

use std::cmp::Ordering;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use understudy_inference::{InferenceError, Sampling};
use understudy_model::token_log_prob;

/// Candidates looked at first for a nucleus; it seldom has more.
const FIRST_CANDIDATES: usize = 64;

/// Draws one request's tokens. Its random stream is its own, so that the rest of the batch does
/// not matter to what it draws.
#[derive(Debug)]
pub(crate) struct Sampler {
    temperature: f32,
    top_k: usize,
    top_p: f32,
    random: ChaCha8Rng,
}

/// A token and its log softmax(logits / T), T = 1 when decoding is greedy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Drawn {
    pub(crate) token: u32,
    pub(crate) log_prob: f32,
}

impl Sampler {
    pub(crate) fn new(sampling: &Sampling, seed: u64) -> Self {
        Self {
            temperature: sampling.temperature,
            top_k: sampling.top_k as usize,
            top_p: sampling.top_p,
            random: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    /// Temperature, then top-k, then top-p of what top-k left, then one uniform draw.
    pub(crate) fn draw(&mut self, logits: &[f32]) -> Result<Drawn, InferenceError> {
        let best = likeliest(logits);
        let is_greedy = self.temperature == 0.0;
        let token = if is_greedy { best } else { self.draw_from(logits, logits[best]) };
        let temperature = if is_greedy { 1.0 } else { self.temperature };
        let (log_prob, _) = token_log_prob(logits, token as u32, temperature);
        // One score that is not a number spoils the sum over all of them.
        if !log_prob.is_finite() {
            let why = "the model's scores are not finite; its adapter may be damaged";
            return Err(InferenceError::Failed(why.to_owned()));
        }
        Ok(Drawn { token: token as u32, log_prob })
    }

    fn draw_from(&mut self, logits: &[f32], max: f32) -> usize {
        let weight = |logit: &f32| ((logit - max) / self.temperature).exp();
        let weights: Vec<f32> = logits.iter().map(weight).collect();
        let point = self.random.random::<f64>();
        if self.top_k == 0 && self.top_p >= 1.0 {
            return pick(point, weights.iter().copied().enumerate());
        }
        let candidates = self.candidates(&weights);
        pick(point, candidates.iter().map(|index| (*index, weights[*index])))
    }

    /// The tokens left by top-k and top-p, likeliest first. Only as many as needed are sorted.
    fn candidates(&self, weights: &[f32]) -> Vec<usize> {
        let likelier = |a: &usize, b: &usize| -> Ordering {
            weights[*b].total_cmp(&weights[*a]).then(a.cmp(b))
        };
        let mut order: Vec<usize> = (0..weights.len()).collect();
        let mut sort_first = |count: usize| {
            if count < order.len() {
                order.select_nth_unstable_by(count, likelier);
            }
            let first = &mut order[..count];
            first.sort_unstable_by(likelier);
            first.to_vec()
        };
        if self.top_k > 0 {
            let first = sort_first(self.top_k.min(weights.len()));
            let total = first.iter().map(|index| f64::from(weights[*index])).sum();
            return self.nucleus(first, weights, total).unwrap_or_else(|whole| whole);
        }
        let total = weights.iter().copied().map(f64::from).sum();
        let mut count = FIRST_CANDIDATES;
        loop {
            let first = sort_first(count.min(weights.len()));
            match self.nucleus(first, weights, total) {
                Ok(nucleus) => return nucleus,
                Err(whole) if whole.len() == weights.len() => return whole,
                Err(_) => count *= 8,
            }
        }
    }

    /// The shortest beginning of `sorted` with the nucleus' share of `total`, or all of it back
    /// when it has less.
    fn nucleus(
        &self,
        mut sorted: Vec<usize>,
        weights: &[f32],
        total: f64,
    ) -> Result<Vec<usize>, Vec<usize>> {
        let enough = f64::from(self.top_p) * total;
        let mut sum = 0.0;
        let end = sorted.iter().position(|index| {
            sum += f64::from(weights[*index]);
            sum >= enough
        });
        match end {
            Some(end) => {
                sorted.truncate(end + 1);
                Ok(sorted)
            }
            None => Err(sorted),
        }
    }
}

/// The first of the highest scores.
fn likeliest(logits: &[f32]) -> usize {
    let mut best = 0;
    for (index, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = index;
        }
    }
    best
}

/// The candidate in whose stretch of the summed weights `point` in [0, 1) falls.
fn pick(point: f64, candidates: impl Iterator<Item = (usize, f32)> + Clone) -> usize {
    let total: f64 = candidates.clone().map(|(_, weight)| f64::from(weight)).sum();
    let mut left = point * total;
    let mut last = 0;
    for (index, weight) in candidates {
        // Rounding may leave a little over at the end; a token of weight zero is never drawn.
        if weight > 0.0 {
            last = index;
            left -= f64::from(weight);
            if left < 0.0 {
                break;
            }
        }
    }
    last
}

#[cfg(test)]
mod tests;
