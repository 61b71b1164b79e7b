//! Products of weights in eight or four bits with inputs in eight, by the processor's dot product of
//! bytes.
//!
//! Weights come in blocks of 32 inputs with a scale (and, in four bits, a least value), as GGUF's
//! Q8_0 and Q4_1 hold them, bit for bit. Inputs are rounded to eight bits with a scale per block and
//! row, as llama.cpp does; sums within a block are exact integers, those over blocks f32. A row's
//! product depends on nothing but the row and the weights.

mod inputs;
mod rows;
mod tile;

use std::ops::Range;

use rayon::prelude::*;
use understudy_team as team;

pub(crate) use rows::{Bits, QuantisedRows};

use super::{
    columns::{Columns, for_bands_of_columns},
    gemm::Into,
    instructions::Instructions,
};
use inputs::Inputs;
use tile::Line;

/// Inputs that share a scale.
pub(crate) const BLOCK: usize = 32;

/// Outputs of one panel: two vectors of sums per row.
const WIDTH: usize = 32;

/// Groups of four adjacent inputs in a block, which the instruction sums up in one go.
const GROUPS: usize = BLOCK / 4;

/// From this many rows on, threads take bands of rows; with fewer they share the columns, so that
/// each weight is read from memory by one of them.
const BANDS_FROM: usize = 64;

/// Most rows of one band: their inputs stay in the second-level cache.
const BAND: usize = 12 * ROWS;

/// Rows that are whole tiles of either fast loop.
const ROWS: usize = 20;

/// Panels that one task multiplies by few rows.
const PANELS_AT_ONCE: usize = 4;

/// Weights `[inputs, outputs]`. Outputs lie in panels of [`WIDTH`]; of a panel, blocks of inputs
/// follow each other, each with its scales.
#[derive(Debug)]
pub(crate) struct Packed {
    inputs: usize,
    outputs: usize,
    bits: Bits,
    /// `[panels, blocks, lines of a block]`: a line holds four inputs of sixteen outputs, or, in four
    /// bits, eight.
    lines: Vec<Line>,
    /// Half-precision `[panels, blocks, WIDTH]`, in four bits `[panels, blocks, 2, WIDTH]`: scales,
    /// then least values.
    scales: Vec<u16>,
}

/// One panel's part of [`Packed`].
#[derive(Debug, Clone, Copy)]
struct Panel<'a> {
    bits: Bits,
    lines: &'a [Line],
    scales: &'a [u16],
}

impl Packed {
    /// Lays matrices that read the same inputs side by side. All must have the same width.
    pub(crate) fn new(parts: &[QuantisedRows], bits: Bits) -> Self {
        let inputs = parts.first().map_or(0, |part| part.inputs);
        assert!(
            parts.iter().all(|part| part.inputs == inputs && part.bits == bits),
            "matrices of unfit width"
        );
        let rows: Vec<(&QuantisedRows, usize)> =
            parts.iter().flat_map(|part| (0..part.rows).map(move |row| (part, row))).collect();
        let (outputs, blocks) = (rows.len(), inputs.div_ceil(BLOCK));
        let panels = outputs.div_ceil(WIDTH);
        let (lines_of, scales_of) = (blocks * bits.lines(), blocks * bits.scales() * WIDTH);
        let mut lines = vec![Line::default(); panels * lines_of];
        let mut scales = vec![0; panels * scales_of];
        lines
            .par_chunks_mut(lines_of.max(1))
            .zip(scales.par_chunks_mut(scales_of.max(1)))
            .zip(rows.par_chunks(WIDTH))
            .for_each(|((lines, scales), rows)| {
                for (output, (part, row)) in rows.iter().enumerate() {
                    part.write(*row, output, lines, scales);
                }
            });
        Self { inputs, outputs, bits, lines, scales }
    }

    pub(crate) fn inputs(&self) -> usize {
        self.inputs
    }

    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }

    pub(crate) fn bits(&self) -> Bits {
        self.bits
    }

    /// Whether this processor has the instruction; without it products are computed one by one.
    pub(crate) fn is_fast() -> bool {
        tile::instructions() != Instructions::Plain
    }

    /// What the loop that runs here is made of.
    pub(crate) fn instructions() -> Instructions {
        tile::instructions()
    }

    /// The weights themselves, row-major `[inputs, outputs]`.
    pub(crate) fn plain(&self) -> Vec<f32> {
        let mut plain = vec![0.0; self.inputs * self.outputs];
        plain.par_chunks_mut(self.outputs.max(1)).enumerate().for_each(|(input, row)| {
            for (output, value) in row.iter_mut().enumerate() {
                *value = self.panel(output / WIDTH).weight(input, output % WIDTH);
            }
        });
        plain
    }

    fn panel(&self, panel: usize) -> Panel<'_> {
        let blocks = self.inputs.div_ceil(BLOCK);
        let (lines, scales) = (blocks * self.bits.lines(), blocks * self.bits.scales() * WIDTH);
        Panel {
            bits: self.bits,
            lines: &self.lines[panel * lines..(panel + 1) * lines],
            scales: &self.scales[panel * scales..(panel + 1) * scales],
        }
    }
}

/// c (+)= a · w for row-major c `[rows, outputs]` and a `[rows, inputs]`, on all threads.
pub(crate) fn product(c: &mut [f32], a: &[f32], w: &Packed, rows: usize, into: Into) {
    assert_eq!((c.len(), a.len()), (rows * w.outputs, rows * w.inputs), "product of unfit shapes");
    if c.is_empty() {
        return;
    }
    if rows < BANDS_FROM || w.inputs == 0 {
        let inputs = Inputs::new(a, w.inputs, rows);
        let band = PANELS_AT_ONCE * WIDTH;
        for_bands_of_columns(c, (rows, w.outputs), band, |index, mut columns| {
            for (panel, mut place) in columns.parts(WIDTH).enumerate() {
                let panel = w.panel(index * PANELS_AT_ONCE + panel);
                tile::rows_times_panel(&inputs, panel, &mut place, into);
            }
        });
        return;
    }
    let threads = team::threads();
    let bands = threads * rows.div_ceil(threads * BAND);
    let band = rows.div_ceil(bands).next_multiple_of(ROWS);
    team::each_chunk(c, band * w.outputs, |index, c| {
        let rows = c.len() / w.outputs;
        let a = &a[index * band * w.inputs..][..rows * w.inputs];
        let inputs = Inputs::new(a, w.inputs, rows);
        for (panel, first) in (0..w.outputs).step_by(WIDTH).enumerate() {
            let columns: Range<usize> = first..(first + WIDTH).min(w.outputs);
            let mut place = Columns::of(c, (rows, w.outputs), (first, columns.len()));
            tile::rows_times_panel(&inputs, w.panel(panel), &mut place, into);
        }
    });
}

#[cfg(test)]
mod tests;
