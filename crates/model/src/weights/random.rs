//! Weights drawn from a seed, for models that only tests use.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::TensorSource;
use crate::error::Result;

/// Draws matrices large enough that a tiny model's logits are not flat; norms near one.
pub(crate) struct RandomSource {
    random: ChaCha8Rng,
}

impl RandomSource {
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: ChaCha8Rng::seed_from_u64(seed) }
    }
}

impl TensorSource for RandomSource {
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let (centre, spread) = match shape {
            [_, inputs] => (0.0, 3.0 / (*inputs as f32).sqrt()),
            _ if name.ends_with("norm.weight") => (1.0, 0.2),
            _ => (0.0, 0.2),
        };
        let len = shape.iter().product();
        Ok((0..len).map(|_| centre + self.random.random_range(-spread..spread)).collect())
    }
}
