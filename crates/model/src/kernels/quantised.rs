//! Weights in eight bits, as GGUF's Q8_0 holds them: blocks of 32 along the inputs, each value a
//! signed byte times the block's scale, which is the block's largest magnitude / 127.
//!
//! They are turned into bf16 or f32 anew for every product, so only one map of the model exists in
//! a wider form at a time.

use std::ops::Range;

use rayon::prelude::*;

use super::bf16::{Packed, round};

/// Inputs that share a scale.
const BLOCK: usize = 32;

/// Weights `[inputs, outputs]`.
#[derive(Debug)]
pub(crate) struct Quantised {
    inputs: usize,
    outputs: usize,
    /// Row-major `[inputs, outputs]`.
    values: Vec<i8>,
    /// `[blocks, outputs]`.
    scales: Vec<f32>,
}

impl Quantised {
    /// Quantises row-major values `[inputs, outputs]`.
    pub(crate) fn new(plain: &[f32], inputs: usize, outputs: usize) -> Self {
        assert_eq!(plain.len(), inputs * outputs, "weights of unfit shape");
        let mut values = vec![0; plain.len()];
        let mut scales = vec![0.0_f32; inputs.div_ceil(BLOCK) * outputs];
        let blocks =
            plain.par_chunks((BLOCK * outputs).max(1)).zip(scales.par_chunks_mut(outputs.max(1)));
        blocks.zip(values.par_chunks_mut((BLOCK * outputs).max(1))).for_each(
            |((plain, scales), values)| {
                for row in plain.chunks_exact(outputs) {
                    for (scale, value) in scales.iter_mut().zip(row) {
                        *scale = scale.max(value.abs() / 127.0);
                    }
                }
                let rows = plain.chunks_exact(outputs).zip(values.chunks_exact_mut(outputs));
                for (row, values) in rows {
                    for ((to, value), scale) in values.iter_mut().zip(row).zip(&*scales) {
                        // A cast saturates, and 0 / 0 of an empty block becomes 0.
                        *to = (value / scale).round() as i8;
                    }
                }
            },
        );
        Self { inputs, outputs, values, scales }
    }

    /// Weights of one input and some outputs.
    fn row(&self, input: usize, outputs: Range<usize>) -> impl Iterator<Item = f32> {
        let scales = input / BLOCK * self.outputs;
        let values = &self.values[input * self.outputs..][outputs.clone()];
        let scales = &self.scales[scales..][outputs];
        values.iter().zip(scales).map(|(value, scale)| f32::from(*value) * scale)
    }

    /// The same weights in bf16, where the processor multiplies that.
    pub(crate) fn packed(&self) -> Option<Packed> {
        Packed::build(self.inputs, self.outputs, |input, first, line| {
            let outputs = first..first + line.len();
            for (to, value) in line.iter_mut().zip(self.row(input, outputs)) {
                *to = round(value);
            }
        })
    }

    /// The same weights in f32, row-major.
    pub(crate) fn plain(&self) -> Vec<f32> {
        (0..self.inputs).flat_map(|input| self.row(input, 0..self.outputs)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reference::noise;

    #[test]
    fn every_value_is_within_half_a_step_and_the_largest_is_kept() {
        for (inputs, outputs) in [(1, 1), (33, 5), (64, 70), (100, 3)] {
            let plain = noise(inputs * outputs, 1);
            let quantised = Quantised::new(&plain, inputs, outputs);
            let found = quantised.plain();
            for (at, (found, plain)) in found.iter().zip(&plain).enumerate() {
                let (block, output) = (at / outputs / BLOCK, at % outputs);
                let scale = quantised.scales[block * outputs + output];
                assert!((found - plain).abs() <= 0.5001 * scale, "at {at}: {found} is not {plain}");
                if plain.abs() >= 126.999 * scale {
                    assert!((found - plain).abs() < 1e-6);
                }
            }
        }
    }

    #[test]
    fn a_block_of_zeros_stays_zero() {
        assert_eq!(Quantised::new(&[0.0; 80], 40, 2).plain(), [0.0; 80]);
    }
}
