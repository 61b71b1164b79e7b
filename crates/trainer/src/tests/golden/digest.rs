//! A tensor in four numbers that no other tensor of a fixture has.

use serde::Deserialize;

/// The norm of a tensor, and its dot products with `v_k[i] = sin(0.37 (i + 1) (k + 1) + k)`.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Digest([f64; 4]);

impl Digest {
    pub(super) fn of(values: &[f32]) -> Self {
        let norm = values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        let dot = |k: f64| -> f64 {
            let weight = |i: usize| (0.37 * (i + 1) as f64 * (k + 1.0) + k).sin();
            values.iter().enumerate().map(|(i, value)| weight(i) * f64::from(*value)).sum()
        };
        Self([norm, dot(0.0), dot(1.0), dot(2.0)])
    }

    /// The largest difference of the four from those expected, relative to the expected norm. A
    /// difference in no particular direction shows in each dot product at 0.7 of its size.
    pub(super) fn distance(self, expected: Self) -> f64 {
        let differences = self.0.iter().zip(expected.0).map(|(found, other)| (found - other).abs());
        differences.fold(0.0, f64::max) / expected.0[0]
    }
}

#[test]
fn a_tensor_that_is_off_by_a_thousandth_anywhere_is_told_apart() {
    let tensor: Vec<f32> = (0..256).map(|i| (i as f32 * 1.7).cos()).collect();
    let digest = Digest::of(&tensor);
    assert_eq!(digest.distance(Digest::of(&tensor)), 0.0);
    let size = digest.0[0] as f32;
    for at in 0..tensor.len() {
        let mut other = tensor.clone();
        other[at] += 1e-3 * size;
        assert!(Digest::of(&other).distance(digest) > 2e-4, "{at}");
    }
}
