//! Weights as files hold them: rows of blocks, before they are laid out for products.

mod file;

use half::f16;
use rayon::prelude::*;

use super::{BLOCK, GROUPS, Line, WIDTH};

/// How many bits a weight has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bits {
    /// GGUF's Q8_0: scale · code, codes from −127 to 127, held 128 higher.
    Eight,
    /// GGUF's Q4_1: least + scale · code, codes from 0 to 15.
    Four,
}

impl Bits {
    /// Lines of one block in a panel.
    pub(super) fn lines(self) -> usize {
        match self {
            Self::Eight => 2 * GROUPS,
            Self::Four => GROUPS,
        }
    }

    /// Numbers that go with a block of one output.
    pub(super) fn scales(self) -> usize {
        match self {
            Self::Eight => 1,
            Self::Four => 2,
        }
    }
}

/// A matrix `[rows, inputs]` whose rows are blocks of 32 values.
#[derive(Debug)]
pub(crate) struct QuantisedRows {
    pub(super) bits: Bits,
    pub(super) rows: usize,
    pub(super) inputs: usize,
    /// `[rows, blocks · BLOCK]`, padded with what stands for zero or the least value.
    codes: Vec<u8>,
    /// Half-precision `[rows, blocks]`.
    scales: Vec<u16>,
    /// The same, in four bits only.
    least: Vec<u16>,
}

impl QuantisedRows {
    /// Rounds row-major values `[rows, inputs]`.
    pub(crate) fn round(plain: &[f32], inputs: usize, bits: Bits) -> Self {
        let (rows, blocks) = (plain.len() / inputs.max(1), inputs.div_ceil(BLOCK));
        let found: Vec<(f16, f16, [u8; BLOCK])> = plain
            .par_chunks(inputs.max(1))
            .flat_map_iter(|row| {
                row.chunks(BLOCK).map(move |block| match bits {
                    Bits::Eight => eight(block),
                    Bits::Four => four(block),
                })
            })
            .collect();
        assert_eq!(found.len(), rows * blocks);
        Self {
            bits,
            rows,
            inputs,
            codes: found.iter().flat_map(|(_, _, codes)| *codes).collect(),
            scales: found.iter().map(|(scale, ..)| scale.to_bits()).collect(),
            least: match bits {
                Bits::Eight => Vec::new(),
                Bits::Four => found.iter().map(|(_, least, _)| least.to_bits()).collect(),
            },
        }
    }

    /// The same rows in another order.
    pub(crate) fn reordered(&self, order: impl Iterator<Item = usize> + Clone) -> Self {
        let take = |values: &[u16]| -> Vec<u16> {
            let width = values.len() / self.rows.max(1);
            order.clone().flat_map(|row| &values[row * width..(row + 1) * width]).copied().collect()
        };
        let width = self.codes.len() / self.rows.max(1);
        let codes = order.clone().flat_map(|row| &self.codes[row * width..(row + 1) * width]);
        Self {
            codes: codes.copied().collect(),
            scales: take(&self.scales),
            least: take(&self.least),
            ..*self
        }
    }

    /// Writes one row as output `output` of a panel.
    pub(super) fn write(&self, row: usize, output: usize, lines: &mut [Line], scales: &mut [u16]) {
        let blocks = self.inputs.div_ceil(BLOCK);
        let codes =
            self.codes[row * blocks * BLOCK..(row + 1) * blocks * BLOCK].chunks_exact(BLOCK);
        let (half, lane) = (output / 16, output % 16 * 4);
        let lines = lines.chunks_exact_mut(self.bits.lines());
        for (codes, lines) in codes.zip(lines) {
            for (group, codes) in codes.chunks_exact(4).enumerate() {
                let (line, shift) = match self.bits {
                    Bits::Eight => (2 * group + half, 0),
                    Bits::Four => (2 * (group % 4) + half, group / 4 * 4),
                };
                let places = &mut lines[line].0[lane..lane + 4];
                places.iter_mut().zip(codes).for_each(|(place, code)| *place |= code << shift);
            }
        }
        let count = self.bits.scales();
        for block in 0..blocks {
            let place = &mut scales[block * count * WIDTH..];
            place[output] = self.scales[row * blocks + block];
            if self.bits == Bits::Four {
                place[WIDTH + output] = self.least[row * blocks + block];
            }
        }
    }
}

fn eight(values: &[f32]) -> (f16, f16, [u8; BLOCK]) {
    let largest = values.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
    let scale = f16::from_f32(largest / 127.0);
    let mut codes = [128; BLOCK];
    for (code, value) in codes.iter_mut().zip(values) {
        // A cast saturates, and 0 / 0 of an empty block becomes 0.
        *code = ((value / scale.to_f32()).round().clamp(-127.0, 127.0) as i8 as u8) ^ 0x80;
    }
    (scale, f16::ZERO, codes)
}

fn four(values: &[f32]) -> (f16, f16, [u8; BLOCK]) {
    let least = values.iter().copied().fold(f32::INFINITY, f32::min);
    let most = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (scale, least) = (f16::from_f32((most - least) / 15.0), f16::from_f32(least));
    let mut codes = [0; BLOCK];
    for (code, value) in codes.iter_mut().zip(values) {
        *code = ((value - least.to_f32()) / scale.to_f32()).round().clamp(0.0, 15.0) as u8;
    }
    (scale, least, codes)
}
