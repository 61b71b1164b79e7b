//! What tests of kernels share: noise, comparison and central differences.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub(crate) fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..len).map(|_| random.random_range(-1.0..1.0)).collect()
}

pub(crate) fn assert_near(left: &[f32], right: &[f32], tolerance: f32) {
    assert_eq!(left.len(), right.len());
    for (index, (a, b)) in left.iter().zip(right).enumerate() {
        assert!((a - b).abs() <= tolerance * b.abs().max(1.0), "at {index}: {a} is not {b}");
    }
}

/// The gradient of Σ w · f(x) by central differences of an f64 definition.
pub(super) fn differences(x: &[f32], w: &[f32], f: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f32> {
    let step = 1e-5;
    let mut x: Vec<f64> = x.iter().copied().map(f64::from).collect();
    let objective = |x: &[f64]| -> f64 { f(x).iter().zip(w).map(|(y, w)| y * f64::from(*w)).sum() };
    (0..x.len())
        .map(|index| {
            let centre = x[index];
            x[index] = centre + step;
            let above = objective(&x);
            x[index] = centre - step;
            let below = objective(&x);
            x[index] = centre;
            ((above - below) / (2.0 * step)) as f32
        })
        .collect()
}
