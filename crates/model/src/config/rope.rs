//! How fast each pair of a head is turned, and how models that were stretched to a longer context
//! turn theirs.

use std::f32::consts::TAU;

use crate::error::{Result, refuse};

/// What was done to the frequencies after a model was first trained.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// Llama 3.1's: slow pairs turn `factor` times slower, fast ones as before, and between the two
    /// it is blended.
    Llama3 {
        factor: f32,
        /// A pair is slow when it turns less often than this over the original context.
        low: f32,
        /// A pair is fast when it turns more often than this over the original context.
        high: f32,
        /// Positions the model was first trained on.
        original: usize,
    },
    /// The same as a GGUF file has it: by how much each pair is slower.
    Divisors(Vec<f32>),
}

impl RopeScaling {
    pub(crate) fn check(&self, head_dim: usize) -> Result<()> {
        let is_usable = match self {
            Self::Llama3 { factor, low, high, original } => {
                *factor >= 1.0 && factor.is_finite() && 0.0 < *low && low < high && *original > 0
            }
            Self::Divisors(divisors) => {
                divisors.len() == head_dim / 2
                    && divisors.iter().all(|divisor| divisor.is_finite() && *divisor > 0.0)
            }
        };
        if is_usable { Ok(()) } else { Err(refuse!(Config, "rope scaling cannot be {self:?}")) }
    }
}

/// θ^(−2i/d) for every pair of a head, scaled.
pub(crate) fn frequencies(theta: f32, head_dim: usize, scaling: Option<&RopeScaling>) -> Vec<f32> {
    let plain = (0..head_dim / 2).map(|pair| 1.0 / theta.powf((2 * pair) as f32 / head_dim as f32));
    match scaling {
        None => plain.collect(),
        Some(RopeScaling::Divisors(divisors)) => {
            plain.zip(divisors).map(|(frequency, divisor)| frequency / divisor).collect()
        }
        Some(RopeScaling::Llama3 { factor, low, high, original }) => {
            let scaled = |frequency: f32| {
                let turns = *original as f32 * frequency / TAU;
                if turns < *low {
                    frequency / factor
                } else if turns > *high {
                    frequency
                } else {
                    let share = (turns - low) / (high - low);
                    (1.0 - share) * frequency / factor + share * frequency
                }
            };
            plain.map(scaled).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Llama 3.2 1B's head of 64: over 8192 positions its pair 14 turns 4.2 times, pair 15 2.8 times,
    /// pair 17 1.2 times, pair 18 0.8 times.
    #[test]
    fn llama3_turns_fast_pairs_as_before_and_slow_ones_slower() {
        let scaling = RopeScaling::Llama3 { factor: 32.0, low: 1.0, high: 4.0, original: 8192 };
        let plain = frequencies(500_000.0, 64, None);
        let scaled = frequencies(500_000.0, 64, Some(&scaling));
        assert_eq!(plain[..15], scaled[..15]);
        for pair in 18..32 {
            assert_eq!(scaled[pair], plain[pair] / 32.0);
        }
        for pair in 15..18 {
            let (slow, fast) = (plain[pair] / 32.0, plain[pair]);
            assert!(slow < scaled[pair] && scaled[pair] < fast, "{pair} lies between");
        }
        let divisors = plain.iter().zip(&scaled).map(|(plain, scaled)| plain / scaled).collect();
        let same = frequencies(500_000.0, 64, Some(&RopeScaling::Divisors(divisors)));
        assert!(same.iter().zip(&scaled).all(|(a, b)| (a / b - 1.0).abs() < 1e-6));
    }
}
