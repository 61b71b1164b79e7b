//! Weights in eight or four bits, in blocks of 32 along the inputs: as GGUF's Q8_0 a signed byte times
//! the block's scale, which is its largest magnitude / 127; as Q4_1 the block's least value plus a
//! code from 0 to 15 times its scale.
//!
//! They are turned into bf16 or f32 anew for every product, so only one map of the model exists in
//! a wider form at a time.

use std::ops::Range;

use rayon::prelude::*;

use super::{
    bf16::{Packed, round},
    int8::Bits,
};

/// Inputs that share a scale.
const BLOCK: usize = 32;

/// Weights `[inputs, outputs]`.
#[derive(Debug)]
pub(crate) struct Quantised {
    inputs: usize,
    outputs: usize,
    bits: Bits,
    /// In eight bits `[inputs, outputs]`; in four `[inputs / 2, outputs]`, the even input below.
    codes: Vec<u8>,
    /// `[blocks, outputs]`.
    scales: Vec<f32>,
    /// The same; zero in eight bits.
    least: Vec<f32>,
}

impl Quantised {
    pub(crate) fn bits(&self) -> Bits {
        self.bits
    }

    /// Quantises row-major values `[inputs, outputs]`.
    pub(crate) fn new(plain: &[f32], (inputs, outputs): (usize, usize), bits: Bits) -> Self {
        assert_eq!(plain.len(), inputs * outputs, "weights of unfit shape");
        let blocks = inputs.div_ceil(BLOCK);
        let lines = match bits {
            Bits::Eight => BLOCK,
            Bits::Four => BLOCK / 2,
        };
        let mut codes = vec![0; blocks * lines * outputs];
        let mut scales = vec![0.0_f32; blocks * outputs];
        let mut least = vec![0.0_f32; blocks * outputs];
        let width = outputs.max(1);
        let numbers = scales.par_chunks_mut(width).zip(least.par_chunks_mut(width));
        plain
            .par_chunks(BLOCK * width)
            .zip(codes.par_chunks_mut(lines * width))
            .zip(numbers)
            .for_each(|((plain, codes), (scales, least))| {
                span(plain, bits, scales, least);
                for (input, row) in plain.chunks_exact(width).enumerate() {
                    let (line, shift) = match bits {
                        Bits::Eight => (input, 0),
                        Bits::Four => (input / 2, input % 2 * 4),
                    };
                    let codes = &mut codes[line * width..(line + 1) * width];
                    for (output, (code, value)) in codes.iter_mut().zip(row).enumerate() {
                        let steps = ((value - least[output]) / scales[output]).round();
                        // A cast saturates, and 0 / 0 of an empty block becomes 0.
                        *code |= match bits {
                            Bits::Eight => steps as i8 as u8,
                            Bits::Four => (steps as u8).min(15) << shift,
                        };
                    }
                }
            });
        Self { inputs, outputs, bits, codes, scales, least }
    }

    /// Weights of one input and some outputs.
    fn row(&self, input: usize, outputs: Range<usize>) -> impl Iterator<Item = f32> {
        let (line, shift) = match self.bits {
            Bits::Eight => (input, 0),
            Bits::Four => (input / 2, input % 2 * 4),
        };
        let codes = &self.codes[line * self.outputs..][outputs.clone()];
        let block = input / BLOCK * self.outputs;
        let scales = &self.scales[block..][outputs.clone()];
        let least = &self.least[block..][outputs];
        let is_signed = self.bits == Bits::Eight;
        codes.iter().zip(scales).zip(least).map(move |((code, scale), least)| {
            let steps =
                if is_signed { f32::from(*code as i8) } else { f32::from(code >> shift & 15) };
            least + steps * scale
        })
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

/// Scale and least value of every output over a block of inputs.
fn span(plain: &[f32], bits: Bits, scales: &mut [f32], least: &mut [f32]) {
    match bits {
        Bits::Eight => {
            for row in plain.chunks_exact(scales.len()) {
                for (scale, value) in scales.iter_mut().zip(row) {
                    *scale = scale.max(value.abs() / 127.0);
                }
            }
        }
        Bits::Four => {
            let mut most = vec![f32::NEG_INFINITY; scales.len()];
            least.fill(f32::INFINITY);
            for row in plain.chunks_exact(least.len()) {
                for ((least, most), value) in least.iter_mut().zip(&mut most).zip(row) {
                    (*least, *most) = (least.min(*value), most.max(*value));
                }
            }
            for ((scale, least), most) in scales.iter_mut().zip(&*least).zip(most) {
                *scale = (most - least) / 15.0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reference::noise;

    #[test]
    fn every_value_is_within_half_a_step_and_the_outermost_are_kept() {
        for bits in [Bits::Eight, Bits::Four] {
            for (inputs, outputs) in [(1, 1), (33, 5), (64, 70), (100, 3)] {
                let plain = noise(inputs * outputs, 1);
                let quantised = Quantised::new(&plain, (inputs, outputs), bits);
                let found = quantised.plain();
                for (at, (found, plain)) in found.iter().zip(&plain).enumerate() {
                    let (block, output) = (at / outputs / BLOCK, at % outputs);
                    let scale = quantised.scales[block * outputs + output];
                    let near = (found - plain).abs() <= 0.5001 * scale + 1e-7;
                    assert!(near, "{bits:?} at {at}: {found} is not {plain}");
                    let outermost = bits == Bits::Eight && plain.abs() >= 126.999 * scale;
                    assert!(!outermost || (found - plain).abs() < 1e-6);
                }
            }
        }
    }

    #[test]
    fn values_of_four_bits_come_back_as_they_were() {
        let plain: Vec<f32> = (0..64 * 3).map(|at| (at * 7 % 16) as f32 * 0.25 - 1.5).collect();
        let once = Quantised::new(&plain, (64, 3), Bits::Four).plain();
        assert_eq!(once, Quantised::new(&once, (64, 3), Bits::Four).plain());
        assert_eq!(once, plain);
    }

    #[test]
    fn a_block_of_zeros_stays_zero() {
        for bits in [Bits::Eight, Bits::Four] {
            assert_eq!(Quantised::new(&[0.0; 80], (40, 2), bits).plain(), [0.0; 80]);
        }
    }
}
