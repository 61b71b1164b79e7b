//! Products with weights in bf16, by the processor's dot product of pairs.
//!
//! Weights are rounded and laid out once; the left side is rounded a band of rows at a time. Sums
//! are f32. The rounding is to nearest, ties to even, on both sides; everything else about a
//! product is as exact as in f32.

mod tile;

use multiversion::multiversion;
use rayon::prelude::*;

use super::gemm::Into;
use tile::{Line, ROWS, WIDTH};

/// Weights `[inputs, outputs]` in bf16. Columns lie in panels of [`WIDTH`]; of a panel, pairs of
/// adjacent input rows are interleaved, because the instruction multiplies and adds such pairs.
/// A value of this type proves that the processor has the instruction.
#[derive(Debug)]
pub(crate) struct Packed {
    inputs: usize,
    outputs: usize,
    /// `[panels, pairs of inputs, LINES]`, zero beyond the last input and the last output.
    lines: Vec<Line>,
}

/// Lines of one pair of input rows in one panel.
const LINES: usize = WIDTH / 16;

/// Inputs summed before a partial sum is put away: what a band of them takes in bf16 stays in the
/// second-level cache.
const DEPTH: usize = 768;

/// Most rows of one band, for the same reason; whole tiles.
const BAND: usize = 32 * ROWS;

/// From this many rows on, threads take bands of rows; with fewer they share the columns, so that
/// each weight is read from memory by one of them.
const BANDS_FROM: usize = 64;

/// Panels that one task multiplies by few rows.
const PANELS_AT_ONCE: usize = 2;

impl Packed {
    /// Rounds row-major values `[inputs, outputs]`; none where the processor lacks the instruction.
    pub(crate) fn new(plain: &[f32], inputs: usize, outputs: usize) -> Option<Self> {
        assert_eq!(plain.len(), inputs * outputs, "weights of unfit shape");
        Self::is_supported().then(|| {
            Self::fill(inputs, outputs, |input, first, line| {
                for (value, from) in line.iter_mut().zip(&plain[input * outputs + first..]) {
                    *value = round(*from);
                }
            })
        })
    }

    /// Whether this processor has the instruction.
    pub(crate) fn is_supported() -> bool {
        tile::is_supported()
    }

    /// Lays out Wᵀ `[outputs, inputs]`, without rounding anything again.
    pub(crate) fn transposed(&self) -> Self {
        Self::fill(self.outputs, self.inputs, |input, first, line| {
            for (offset, value) in line.iter_mut().enumerate() {
                *value = self.at(first + offset, input);
            }
        })
    }

    fn fill(
        inputs: usize,
        outputs: usize,
        values: impl Fn(usize, usize, &mut [u16]) + Sync,
    ) -> Self {
        let (panels, pairs) = (outputs.div_ceil(WIDTH), inputs.div_ceil(2));
        let mut lines = vec![Line::default(); panels * pairs * LINES];
        lines.par_chunks_mut((pairs * LINES).max(1)).enumerate().for_each(|(panel, lines)| {
            let first = panel * WIDTH;
            let width = WIDTH.min(outputs - first);
            for (pair, lines) in lines.chunks_exact_mut(LINES).enumerate() {
                let mut rows = [[0; WIDTH]; 2];
                for (input, row) in (2 * pair..inputs).zip(&mut rows) {
                    values(input, first, &mut row[..width]);
                }
                let [even, odd] = rows;
                let both = even.into_iter().zip(odd);
                for (to, (even, odd)) in lines.iter_mut().flat_map(|line| &mut line.0).zip(both) {
                    *to = u32::from(even) | u32::from(odd) << 16;
                }
            }
        });
        Self { inputs, outputs, lines }
    }

    /// The bits of one weight.
    fn at(&self, input: usize, output: usize) -> u16 {
        let pairs = self.inputs.div_ceil(2);
        let line = (output / WIDTH * pairs + input / 2) * LINES + output % WIDTH / 16;
        let pair = self.lines[line].0[output % 16];
        (pair >> (16 * (input % 2))) as u16
    }

    /// The pairs of inputs `depth` of one panel.
    fn panel(&self, panel: usize, pairs: std::ops::Range<usize>) -> &[Line] {
        let first = panel * self.inputs.div_ceil(2);
        &self.lines[(first + pairs.start) * LINES..(first + pairs.end) * LINES]
    }
}

/// c (+)= a · w for row-major c `[rows, outputs]` and a `[rows, inputs]`, on all threads.
pub(crate) fn product(c: &mut [f32], a: &[f32], w: &Packed, rows: usize, into: Into) {
    assert_eq!((c.len(), a.len()), (rows * w.outputs, rows * w.inputs), "product of unfit shapes");
    if c.is_empty() {
        return;
    }
    if w.inputs == 0 {
        return if into == Into::Replace {
            c.fill(0.0)
        };
    }
    if rows < BANDS_FROM {
        return few_rows(c, a, w, rows, into);
    }
    let threads = rayon::current_num_threads();
    let bands = threads * rows.div_ceil(threads * BAND);
    let band = rows.div_ceil(bands).next_multiple_of(ROWS);
    c.par_chunks_mut(band * w.outputs).zip(a.par_chunks(band * w.inputs)).for_each_init(
        Vec::new,
        |rounded, (c, a)| {
            let rows = a.len() / w.inputs;
            for first in (0..w.inputs).step_by(DEPTH) {
                let depth = first..(first + DEPTH).min(w.inputs);
                let stride = round_rows(a, w.inputs, depth.clone(), rounded);
                let into = if first == 0 { into } else { Into::Add };
                for panel in 0..w.outputs.div_ceil(WIDTH) {
                    let lines = w.panel(panel, first / 2..depth.end.div_ceil(2));
                    let c = &mut c[panel * WIDTH..];
                    let width = WIDTH.min(w.outputs - panel * WIDTH);
                    tile::rows_times_panel(
                        (rounded, rows, stride),
                        lines,
                        (c, w.outputs, width),
                        into,
                    );
                }
            }
        },
    );
}

/// Each task multiplies all rows by its panels; the blocks are then put side by side.
fn few_rows(c: &mut [f32], a: &[f32], w: &Packed, rows: usize, into: Into) {
    let mut rounded = Vec::new();
    let stride = round_rows(a, w.inputs, 0..w.inputs, &mut rounded);
    let panels = w.outputs.div_ceil(WIDTH);
    let mut blocks = vec![0.0; panels * rows * WIDTH];
    let block = rows * WIDTH;
    blocks.par_chunks_mut(PANELS_AT_ONCE * block).enumerate().for_each(|(task, blocks)| {
        for (index, block) in blocks.chunks_exact_mut(block).enumerate() {
            let lines = w.panel(task * PANELS_AT_ONCE + index, 0..stride / 2);
            let left = (rounded.as_slice(), rows, stride);
            tile::rows_times_panel(left, lines, (block, WIDTH, WIDTH), Into::Replace);
        }
    });
    for (row, c) in c.chunks_exact_mut(w.outputs).enumerate() {
        for (block, c) in blocks.chunks_exact(block).zip(c.chunks_mut(WIDTH)) {
            let sums = &block[row * WIDTH..];
            match into {
                Into::Replace => c.copy_from_slice(&sums[..c.len()]),
                Into::Add => c.iter_mut().zip(sums).for_each(|(c, sum)| *c += sum),
            }
        }
    }
}

/// Rounds columns `depth` of row-major values, `width` apart, to rows of whole pairs; returns how
/// far apart those lie.
fn round_rows(
    values: &[f32],
    width: usize,
    depth: std::ops::Range<usize>,
    rounded: &mut Vec<u16>,
) -> usize {
    let stride = depth.len().next_multiple_of(2);
    rounded.clear();
    rounded.resize(values.len() / width * stride, 0);
    for (row, rounded) in values.chunks_exact(width).zip(rounded.chunks_exact_mut(stride)) {
        round_row(&row[depth.clone()], rounded);
    }
    stride
}

#[multiversion(targets = "simd")]
fn round_row(values: &[f32], rounded: &mut [u16]) {
    for (value, rounded) in values.iter().zip(rounded) {
        *rounded = round(*value);
    }
}

/// The bits of the nearest bf16, ties to even; NaN stays NaN.
#[expect(
    clippy::inline_always,
    reason = "inlined into a multiversioned loop it becomes vector code"
)]
#[inline(always)]
fn round(value: f32) -> u16 {
    let bits = value.to_bits();
    let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    let quiet = bits >> 16 | 0x40;
    (if value.is_nan() { quiet } else { nearest }) as u16
}

#[cfg(test)]
mod tests;
