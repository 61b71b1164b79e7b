//! Softmax over one row: of attention scores, and of a whole vocabulary.

use multiversion::multiversion;

use super::simd::{LANES, exp, max, sum};

/// Replaces scores by exp(scores − max) / Σ and returns log Σ exp(scores).
#[multiversion(targets = "simd")]
pub(crate) fn softmax(scores: &mut [f32]) -> f32 {
    let max = max(scores);
    let mut lanes = [0.0; LANES];
    let mut chunks = scores.chunks_exact_mut(LANES);
    for chunk in chunks.by_ref() {
        for (score, lane) in chunk.iter_mut().zip(&mut lanes) {
            *score = exp(*score - max);
            *lane += *score;
        }
    }
    let mut total = sum(lanes);
    for score in chunks.into_remainder() {
        *score = exp(*score - max);
        total += *score;
    }
    let inverse = 1.0 / total;
    for score in scores.iter_mut() {
        *score *= inverse;
    }
    max + total.ln()
}

/// Replaces scores by the probabilities exp(scores − lse).
#[multiversion(targets = "simd")]
pub(crate) fn probabilities(scores: &mut [f32], lse: f32) {
    for score in scores.iter_mut() {
        *score = exp(*score - lse);
    }
}

/// What one row of logits says under a temperature.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowStats {
    pub(crate) max: f32,
    /// Σ exp((z − max) / T).
    pub(crate) sum: f64,
    /// Σ exp((z − max) / T) · (z − max) / T.
    pub(crate) weighted: f64,
}

/// Reads a row once for its maximum and once for its sums.
#[multiversion(targets = "simd")]
pub(crate) fn row_stats(logits: &[f32], inverse_temperature: f32) -> RowStats {
    // Partial sums stay short, so that adding a small term to a large f32 sum loses nothing.
    const BLOCK: usize = 1024;
    let max = max(logits);
    let (mut total, mut total_weighted) = (0.0_f64, 0.0_f64);
    for block in logits.chunks(BLOCK) {
        let (mut sums, mut weights) = ([0.0_f32; LANES], [0.0_f32; LANES]);
        let chunks = block.chunks_exact(LANES);
        for logit in chunks.remainder() {
            let z = (logit - max) * inverse_temperature;
            let e = exp(z);
            total += f64::from(e);
            total_weighted += f64::from(e * z);
        }
        for chunk in chunks {
            for ((sum, weighted), logit) in sums.iter_mut().zip(&mut weights).zip(chunk) {
                let z = (logit - max) * inverse_temperature;
                let e = exp(z);
                *sum += e;
                *weighted += e * z;
            }
        }
        total += f64::from(sum(sums));
        total_weighted += f64::from(sum(weights));
    }
    RowStats { max, sum: total, weighted: total_weighted }
}

/// exp((z − max) / T) of every score z, and the sum of every [`STRETCH`] of them. What is 10³⁷ times
/// less likely than the likeliest weighs nothing, nor does a score of −∞.
#[multiversion(targets = "simd")]
pub(crate) fn weigh(scores: &[f32], max: f32, inverse_temperature: f32) -> (Vec<f32>, Vec<f64>) {
    let mut weights = vec![0.0_f32; scores.len()];
    let parts = weights.chunks_mut(STRETCH).zip(scores.chunks(STRETCH));
    let sums = parts.map(|(weights, scores)| {
        for (weight, score) in weights.iter_mut().zip(scores) {
            let z = (score - max) * inverse_temperature;
            let e = exp(z);
            *weight = if z < -87.0 { 0.0 } else { e };
        }
        let mut lanes = [0.0_f32; LANES];
        let chunks = weights.chunks_exact(LANES);
        let rest: f32 = chunks.remainder().iter().sum();
        for chunk in chunks {
            for (lane, weight) in lanes.iter_mut().zip(chunk) {
                *lane += weight;
            }
        }
        f64::from(sum(lanes)) + f64::from(rest)
    });
    let sums = sums.collect();
    (weights, sums)
}

/// Weights that [`weigh`] sums up together.
pub(crate) const STRETCH: usize = 1024;

/// The first of the largest values; 0 where none compares.
#[multiversion(targets = "simd")]
pub(crate) fn first_of_largest(values: &[f32]) -> usize {
    let most = max(values);
    let is_there = |values: &[f32]| {
        let mut found = 0_u32;
        for value in values {
            found |= u32::from(*value == most);
        }
        found != 0
    };
    let stretch = values.chunks(STRETCH).position(is_there).unwrap_or(0);
    let within = values[stretch * STRETCH..].iter().position(|value| *value == most);
    stretch * STRETCH + within.unwrap_or(0)
}

/// Replaces logits by −total · softmax((logits) / T), the part of a log-probability's gradient
/// that every token shares; `log_sum` is log Σ exp((z − max) / T).
#[multiversion(targets = "simd")]
pub(crate) fn negative_softmax(
    logits: &mut [f32],
    max: f32,
    inverse_temperature: f32,
    log_sum: f32,
    total: f32,
) {
    for logit in logits.iter_mut() {
        *logit = -total * exp((*logit - max) * inverse_temperature - log_sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reference::{assert_near, noise};

    fn definition(scores: &[f32]) -> (Vec<f32>, f32) {
        let exps: Vec<f64> = scores.iter().map(|score| f64::from(*score).exp()).collect();
        let total: f64 = exps.iter().sum();
        (exps.iter().map(|e| (e / total) as f32).collect(), total.ln() as f32)
    }

    #[test]
    fn softmax_and_its_recomputation_agree_with_the_definition() {
        for len in [1, 5, 16, 33, 200] {
            let scores: Vec<f32> = noise(len, 1).iter().map(|score| score * 8.0).collect();
            let (expected, expected_lse) = definition(&scores);
            let mut fresh = scores.clone();
            let lse = softmax(&mut fresh);
            assert_near(&[lse], &[expected_lse], 1e-5);
            assert_near(&fresh, &expected, 1e-6);
            let mut again = scores;
            probabilities(&mut again, lse);
            assert_near(&again, &expected, 1e-5);
        }
    }

    #[test]
    fn row_stats_agree_with_the_definition_at_any_temperature() {
        for (len, temperature) in [(1, 1.0), (7, 0.5), (5000, 1.0), (1030, 1.7)] {
            let logits: Vec<f32> = noise(len, 2).iter().map(|z| z * 12.0).collect();
            let stats = row_stats(&logits, 1.0 / temperature);
            let z: Vec<f64> = logits
                .iter()
                .map(|z| (f64::from(*z) - f64::from(stats.max)) / f64::from(temperature))
                .collect();
            let sum: f64 = z.iter().map(|z| z.exp()).sum();
            let weighted: f64 = z.iter().map(|z| z.exp() * z).sum();
            assert_near(&[stats.sum as f32], &[sum as f32], 1e-6);
            assert_near(&[stats.weighted as f32], &[weighted as f32], 1e-6);
        }
    }

    #[test]
    fn weights_and_their_sums_agree_with_the_definition() {
        for (len, temperature) in [(1, 1.0), (40, 0.7), (3000, 1.3)] {
            let mut scores: Vec<f32> = noise(len, 4).iter().map(|z| z * 9.0).collect();
            scores[len / 2] = f32::NEG_INFINITY;
            let max = 9.0;
            let (weights, sums) = weigh(&scores, max, 1.0 / temperature);
            let expected: Vec<f32> =
                scores.iter().map(|z| ((z - max) / temperature).exp()).collect();
            assert_near(&weights, &expected, 1e-6);
            assert_eq!(weights[len / 2], 0.0);
            assert_eq!(sums.len(), len.div_ceil(STRETCH));
            for (sum, expected) in sums.iter().zip(expected.chunks(STRETCH)) {
                let expected: f64 = expected.iter().map(|e| f64::from(*e)).sum();
                assert!((sum - expected).abs() <= 1e-5 * expected.max(1e-30), "{sum} {expected}");
            }
        }
    }

    #[test]
    fn the_first_of_the_largest_is_found_wherever_it_is() {
        for (len, places) in [(1, vec![0]), (50, vec![17, 40]), (5000, vec![4100, 4999])] {
            let mut values = noise(len, 5);
            for place in &places {
                values[*place] = 30.0;
            }
            assert_eq!(first_of_largest(&values), places[0]);
        }
        assert_eq!(first_of_largest(&[f32::NAN, f32::NAN]), 0);
        assert_eq!(first_of_largest(&[f32::NEG_INFINITY, f32::NEG_INFINITY]), 0);
        assert_eq!(first_of_largest(&[f32::NAN, 1.0, 2.0]), 2);
    }

    #[test]
    fn nan_is_never_hidden() {
        let mut scores = noise(40, 3);
        scores[21] = f32::NAN;
        assert!(row_stats(&scores, 1.0).sum.is_nan());
        assert!(softmax(&mut scores).is_nan());
    }
}
