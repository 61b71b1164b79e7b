//! AdamW as torch computes it, with moments that can be saved.
//!
//! Everything is `f32` on the host: an adapter is megabytes, so the update costs less than one
//! thousandth of a step, and the same bytes come out whatever device ran the model.

use std::ops::Range;

const BETA1: f64 = 0.9;
const EPSILON: f32 = 1e-8;

/// The optimiser's memory: the two moments of every trainable value, and how often it stepped.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AdamW {
    weight_decay: f64,
    beta2: f64,
    steps: u64,
    /// Running mean of the gradient.
    first: Vec<f32>,
    /// Running mean of its square.
    second: Vec<f32>,
}

impl AdamW {
    /// State after `steps` updates. Before the first one both moments are zero.
    pub(crate) fn new(
        (weight_decay, beta2): (f64, f64),
        steps: u64,
        first: Vec<f32>,
        second: Vec<f32>,
    ) -> Self {
        Self { weight_decay, beta2, steps, first, second }
    }

    /// The running means of the gradient and of its square.
    pub(crate) fn moments(&self) -> (&[f32], &[f32]) {
        (&self.first, &self.second)
    }

    /// One update, with gradients multiplied by `scale` on the way in. Every range of parameters
    /// has its own rate; what no range covers stays as it is.
    ///
    /// ```text
    /// p ← p (1 − lr·wd)
    /// m ← β₁ m + (1−β₁) g        v ← β₂ v + (1−β₂) g²
    /// p ← p − lr · m/(1−β₁ᵗ) / (√(v/(1−β₂ᵗ)) + ε)          t from 1
    /// ```
    pub(crate) fn update(
        &mut self,
        rates: &[(Range<usize>, f64)],
        parameters: &mut [f32],
        gradients: &[f32],
        scale: f32,
    ) {
        self.steps += 1;
        let root = correction(self.beta2, self.steps).sqrt() as f32;
        let (keep_first, keep_second) = (BETA1 as f32, self.beta2 as f32);
        let (add_first, add_second) = ((1.0 - BETA1) as f32, (1.0 - self.beta2) as f32);
        for (range, rate) in rates {
            let keep = (1.0 - rate * self.weight_decay) as f32;
            let step_size = (rate / correction(BETA1, self.steps)) as f32;
            let first = self.first[range.clone()].iter_mut();
            let moments = first.zip(&mut self.second[range.clone()]);
            let values = parameters[range.clone()].iter_mut().zip(&gradients[range.clone()]);
            for ((p, g), (m, v)) in values.zip(moments) {
                let g = g * scale;
                *m = keep_first * *m + add_first * g;
                *v = keep_second * *v + add_second * (g * g);
                *p = *p * keep - step_size * *m / (v.sqrt() / root + EPSILON);
            }
        }
    }
}

/// `1 − βᵗ`, which undoes the pull towards the zero the moments started from.
fn correction(beta: f64, steps: u64) -> f64 {
    1.0 - beta.powi(steps.min(i32::MAX as u64) as i32)
}

/// `√(Σ g²)`, summed in `f64`; infinite or NaN when any element is.
pub(crate) fn global_norm(gradients: &[f32]) -> f64 {
    gradients.iter().map(|g| f64::from(*g) * f64::from(*g)).sum::<f64>().sqrt()
}

/// What to multiply gradients of this norm by so that it stays below `largest`.
pub(crate) fn clip_scale(norm: f64, largest: f64) -> f32 {
    (largest / (norm + 1e-6)).min(1.0) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRADIENTS: [[f32; 3]; 3] = [[0.1, -0.2, 0.0], [0.05, 0.3, -1.0], [-0.2, 0.1, 0.5]];

    fn run(weight_decay: f64) -> [f32; 3] {
        let mut parameters = [0.5, -0.3, 2.0];
        let mut optimizer = AdamW::new((weight_decay, 0.999), 0, vec![0.0; 3], vec![0.0; 3]);
        for gradient in &GRADIENTS {
            optimizer.update(&[(0..3, 1e-2)], &mut parameters, gradient, 1.0);
        }
        parameters
    }

    fn assert_close(found: &[f32], expected: &[f64]) {
        for (found, expected) in found.iter().zip(expected) {
            let error = (f64::from(*found) - expected).abs() / expected.abs();
            assert!(error < 1e-6, "{found} is not {expected}");
        }
    }

    #[test]
    fn three_steps_are_those_of_torch() {
        assert_close(&run(0.0), &[0.482_741_775_907, -0.296_030_362_346, 2.009_727_771_853]);
        assert_close(&run(0.01), &[0.482_594_722_986, -0.295_942_123_544, 2.009_127_087_714]);
    }

    #[test]
    fn state_saved_between_steps_changes_nothing() {
        let mut parameters = [0.5, -0.3, 2.0];
        let mut optimizer = AdamW::new((0.01, 0.999), 0, vec![0.0; 3], vec![0.0; 3]);
        for (steps, gradient) in (0..).zip(&GRADIENTS) {
            let (first, second) = optimizer.moments();
            let (first, second) = (first.to_vec(), second.to_vec());
            optimizer = AdamW::new((0.01, 0.999), steps, first, second);
            optimizer.update(&[(0..3, 1e-2)], &mut parameters, gradient, 1.0);
        }
        assert_eq!(parameters, run(0.01));
    }

    #[test]
    fn ranges_move_at_their_own_rates_and_what_is_left_out_stays() {
        let start = [0.5, -0.3, 2.0];
        let step = |rates: &[(Range<usize>, f64)]| {
            let mut parameters = start;
            let mut optimizer = AdamW::new((0.0, 0.999), 0, vec![0.0; 3], vec![0.0; 3]);
            optimizer.update(rates, &mut parameters, &[0.1, -0.2, 0.4], 1.0);
            parameters
        };
        let (slow, mixed) = (step(&[(0..3, 1e-3)]), step(&[(0..1, 1e-3), (1..2, 1.6e-2)]));
        assert_eq!(mixed[0], slow[0]);
        let moved = |after: [f32; 3]| f64::from(after[1] - start[1]);
        assert!((moved(mixed) / moved(slow) - 16.0).abs() < 1e-3);
        assert_eq!(mixed[2], start[2]);
    }

    #[test]
    fn clipping_scales_to_the_largest_norm_and_never_up() {
        let gradient = [3.0, 4.0, 0.0];
        let norm = global_norm(&gradient);
        assert_eq!(norm, 5.0);
        let scale = clip_scale(norm, 1.0);
        assert_close(&[gradient[0] * scale, gradient[1] * scale], &[0.599_999_88, 0.799_999_84]);
        assert_eq!(clip_scale(0.5, 1.0), 1.0);
    }

    #[test]
    fn one_bad_element_makes_the_norm_not_finite() {
        assert!(!global_norm(&[1.0, f32::NAN]).is_finite());
        assert!(!global_norm(&[f32::INFINITY]).is_finite());
        assert_eq!(global_norm(&[f32::MAX]), f64::from(f32::MAX));
    }
}
