//! Element-wise passes of BERT, each over its values once.
//!
//! Composed of tensor operations they would read and write everything five times, which on a CPU
//! costs as much as the products between them.

use multiversion::multiversion;
use understudy_team as team;

/// Values below which splitting work over threads costs more than it saves.
const PARALLEL_FROM: usize = 1 << 14;

/// y ← gelu(y + bias), gelu(x) = x·½·(1 + erf(x/√2)). Source: Hendrycks and Gimpel, "Gaussian
/// Error Linear Units" (2016).
#[derive(Debug)]
pub(crate) struct BiasGelu(pub(crate) Vec<f32>);

/// y ← (z − mean z)/√(var z + ε)·gain + offset per row, z = y + bias + x. Source: Ba, Kiros and
/// Hinton, "Layer Normalization" (2016), after the residual connection as in BERT.
#[derive(Debug)]
pub(crate) struct ResidualNorm {
    pub(crate) bias: Vec<f32>,
    pub(crate) norm: Norm,
}

/// A layer normalisation's own values.
#[derive(Debug)]
pub(crate) struct Norm {
    pub(crate) gain: Vec<f32>,
    pub(crate) offset: Vec<f32>,
    pub(crate) epsilon: f32,
}

impl BiasGelu {
    pub(crate) fn apply(&self, values: &mut [f32]) {
        rows(values, self.0.len(), |_, row| bias_gelu(row, &self.0));
    }
}

impl Norm {
    pub(crate) fn apply(&self, values: &mut [f32]) {
        rows(values, self.gain.len(), |_, row| self.of_row(row));
    }

    fn of_row(&self, row: &mut [f32]) {
        normalise(row, &self.gain, &self.offset, self.epsilon);
    }
}

impl ResidualNorm {
    /// For rows and as many rows of x.
    pub(crate) fn apply(&self, values: &mut [f32], x: &[f32]) {
        let width = self.bias.len();
        rows(values, width, |at, row| {
            add(row, &self.bias, &x[at * width..(at + 1) * width]);
            self.norm.of_row(row);
        });
    }
}

/// y ← y + bias per row.
pub(crate) fn add_bias(values: &mut [f32], bias: &[f32]) {
    rows(values, bias.len(), |_, row| {
        for (y, bias) in row.iter_mut().zip(bias) {
            *y += bias;
        }
    });
}

/// Calls `each` with every row and its number.
fn rows(values: &mut [f32], width: usize, each: impl Fn(usize, &mut [f32]) + Sync) {
    let band = match values.len() {
        few if few < PARALLEL_FROM => few / width,
        _ => (PARALLEL_FROM / 4 / width).max(1),
    };
    team::each_chunk(values, band.max(1) * width, |index, values| {
        for (at, row) in values.chunks_mut(width).enumerate() {
            each(index * band + at, row);
        }
    });
}

#[multiversion(targets = "simd")]
fn bias_gelu(row: &mut [f32], bias: &[f32]) {
    for (y, bias) in row.iter_mut().zip(bias) {
        let x = *y + bias;
        *y = 0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2));
    }
}

/// erf to 4e-7: x·P(x²)/Q(x²), fitted by least squares reweighted towards the largest error, on
/// [0, 3.92], behind which erf is 1 in f32.
#[inline(always)]
#[expect(clippy::approx_constant, reason = "fitted, and 2/√π only at the first glance")]
fn erf(x: f32) -> f32 {
    const P: [f32; 6] =
        [1.128_379, 0.192_763_85, 0.053_060_45, 0.003_868_316_8, 0.000_287_478_88, 2.034_733_6e-6];
    const Q: [f32; 6] =
        [1.0, 0.504_164_16, 0.115_084_53, 0.015_172_277, 0.001_188_112, 3.807_059_7e-5];
    let x = x.clamp(-3.92, 3.92);
    let t = x * x;
    let (mut p, mut q) = (P[5], Q[5]);
    for power in (0..5).rev() {
        p = p * t + P[power];
        q = q * t + Q[power];
    }
    x * p / q
}

#[multiversion(targets = "simd")]
fn add(row: &mut [f32], bias: &[f32], residual: &[f32]) {
    for ((y, bias), x) in row.iter_mut().zip(bias).zip(residual) {
        *y += bias + x;
    }
}

#[multiversion(targets = "simd")]
fn normalise(row: &mut [f32], gain: &[f32], offset: &[f32], epsilon: f32) {
    const LANES: usize = 16;
    let count = row.len() as f32;
    let mut sums = [0.0_f32; LANES];
    for chunk in row.chunks(LANES) {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *sum += x;
        }
    }
    let mean = sums.iter().sum::<f32>() / count;
    let mut squares = [0.0_f32; LANES];
    for chunk in row.chunks(LANES) {
        for (square, x) in squares.iter_mut().zip(chunk) {
            *square += (x - mean) * (x - mean);
        }
    }
    let scale = 1.0 / (squares.iter().sum::<f32>() / count + epsilon).sqrt();
    for ((y, gain), offset) in row.iter_mut().zip(gain).zip(offset) {
        *y = (*y - mean) * scale * gain + offset;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By its Taylor series, in f64.
    fn exact_erf(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    }

    #[test]
    fn erf_is_right_to_seven_digits_everywhere() {
        for step in -500..=500 {
            let x = step as f32 / 100.0;
            let error = (f64::from(erf(x)) - exact_erf(f64::from(x))).abs();
            assert!(error < 5e-7, "erf({x}) is off by {error}");
        }
        assert!((erf(30.0) - 1.0).abs() < 5e-7 && (erf(-30.0) + 1.0).abs() < 5e-7);
    }

    #[test]
    fn gelu_has_its_known_values() {
        let mut row = [0.0, 1.0, -1.0, 2.0, -6.0];
        bias_gelu(&mut row, &[0.0, 0.0, 0.0, 1.0, 0.0]);
        // x·Φ(x), from tables of the normal distribution.
        for (found, wanted) in row.iter().zip([0.0, 0.841_344_7, -0.158_655_26, 2.995_95, 0.0]) {
            assert!((found - wanted).abs() < 2e-6, "{found} {wanted}");
        }
    }

    #[test]
    fn rows_are_normalised() {
        let mut row: Vec<f32> = (0..37).map(|n| (n as f32).sin() * 3.0 + 100.0).collect();
        normalise(&mut row, &[2.0; 37], &[1.0; 37], 1e-12);
        let mean = row.iter().sum::<f32>() / 37.0;
        let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / 37.0;
        assert!((mean - 1.0).abs() < 1e-4 && (variance - 4.0).abs() < 1e-3, "{mean} {variance}");
    }
}
