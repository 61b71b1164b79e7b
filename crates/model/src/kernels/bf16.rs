//! Products with weights in bf16, by the processor's dot product of pairs where it has one.
//!
//! Weights are rounded and laid out once; the left side is rounded a band of rows at a time. Sums
//! are f32. The rounding is to nearest, ties to even, on both sides; everything else about a
//! product is as exact as in f32.

mod tile;

use std::ops::Range;

use rayon::prelude::*;
use understudy_team as team;

use super::{
    columns::{Columns, for_bands_of_columns},
    gemm::Into,
    instructions::Instructions,
    steady::Grouped,
};
use tile::{Left, Line, Loop};

/// Weights `[inputs, outputs]` in bf16. Columns lie in panels as wide as a tile of the loop; of a
/// panel, pairs of adjacent input rows are interleaved, because the instruction multiplies and adds
/// such pairs. A value of this type proves that the processor runs the loop.
#[derive(Debug)]
pub(crate) struct Packed {
    by: Loop,
    inputs: usize,
    outputs: usize,
    /// `[panels, pairs of inputs, by.lines()]`, zero beyond the last input and the last output; as
    /// many pairs as the loop reads.
    lines: Vec<Line>,
}

/// Columns that one task multiplies: whole panels of either loop.
const COLUMNS: usize = 64;

/// Inputs summed before a partial sum is put away: what a band of them takes in bf16 stays in the
/// second-level cache.
const DEPTH: usize = 768;

/// Most rows of one band, for the same reason; whole tiles of any loop.
const BAND: usize = 192;

/// From this many rows on, threads take bands of rows; with fewer they share the columns, so that
/// each weight is read from memory by one of them.
const BANDS_FROM: usize = 64;

impl Packed {
    /// Rounds row-major values `[inputs, outputs]`; none where the processor runs no loop.
    pub(crate) fn new(plain: &[f32], inputs: usize, outputs: usize) -> Option<Self> {
        assert_eq!(plain.len(), inputs * outputs, "weights of unfit shape");
        Self::build(inputs, outputs, |input, first, line| {
            for (value, from) in line.iter_mut().zip(&plain[input * outputs + first..]) {
                *value = round(*from);
            }
        })
    }

    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }

    /// Whether one of the loops runs on this processor.
    pub(crate) fn is_supported() -> bool {
        Loop::here().is_some()
    }

    /// What the loop that runs here is made of, if one does.
    pub(crate) fn instructions() -> Option<Instructions> {
        Loop::here().map(Loop::instructions)
    }

    /// Rows that one instruction of the loop here multiplies.
    pub(crate) fn rows_at_once() -> usize {
        Loop::here().map_or(1, Loop::rows_at_once)
    }

    /// Lays out Wᵀ `[outputs, inputs]`, without rounding anything again.
    pub(crate) fn transposed(&self) -> Self {
        Self::fill(self.by, self.outputs, self.inputs, |input, first, line| {
            for (offset, value) in line.iter_mut().enumerate() {
                *value = self.at(first + offset, input);
            }
        })
    }

    /// Weights whose bits `values(input, first output, line)` writes; none where the processor runs
    /// no loop.
    pub(super) fn build(
        inputs: usize,
        outputs: usize,
        values: impl Fn(usize, usize, &mut [u16]) + Sync,
    ) -> Option<Self> {
        Loop::here().map(|by| Self::fill(by, inputs, outputs, values))
    }

    fn fill(
        by: Loop,
        inputs: usize,
        outputs: usize,
        values: impl Fn(usize, usize, &mut [u16]) + Sync,
    ) -> Self {
        let (panels, pairs) = (outputs.div_ceil(by.columns()), by.pairs(inputs));
        let mut lines = vec![Line::default(); panels * pairs * by.lines()];
        lines.par_chunks_mut((pairs * by.lines()).max(1)).enumerate().for_each(|(panel, lines)| {
            let first = panel * by.columns();
            let width = by.columns().min(outputs - first);
            for (pair, lines) in lines.chunks_exact_mut(by.lines()).enumerate() {
                let mut rows = [[0; COLUMNS]; 2];
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
        Self { by, inputs, outputs, lines }
    }

    /// The bits of one weight.
    fn at(&self, input: usize, output: usize) -> u16 {
        let pairs = self.by.pairs(self.inputs);
        let (panel, column) = (output / self.by.columns(), output % self.by.columns());
        let line = (panel * pairs + input / 2) * self.by.lines() + column / 16;
        let pair = self.lines[line].0[output % 16];
        (pair >> (16 * (input % 2))) as u16
    }

    /// The inputs `depth` of one panel, of which the first is that of a pair.
    fn panel(&self, panel: usize, depth: &Range<usize>) -> &[Line] {
        let (first, each) = (panel * self.by.pairs(self.inputs), self.by.lines());
        let (start, end) = (first + depth.start / 2, first + self.by.pairs(depth.end));
        &self.lines[start * each..end * each]
    }
}

/// c (+)= a · w for row-major c `[rows, outputs]` and a `[rows, inputs]`, on all threads.
pub(crate) fn product(c: &mut [f32], a: &[f32], w: &Packed, rows: usize, into: Into) {
    product_with(c, (a, w), rows, into, &Grouped::default());
}

/// The same, with the products of runs added to it while its columns are in cache.
pub(crate) fn product_with(
    c: &mut [f32],
    (a, w): (&[f32], &Packed),
    rows: usize,
    into: Into,
    runs: &Grouped<'_>,
) {
    assert_eq!((c.len(), a.len()), (rows * w.outputs, rows * w.inputs), "product of unfit shapes");
    if c.is_empty() {
        return;
    }
    if rows < BANDS_FROM || w.inputs == 0 {
        few_rows(c, (a, w), rows, into);
        runs.multiply(
            0,
            0..w.outputs,
            &mut Columns::of(c, (rows, w.outputs), (0, w.outputs)),
            Into::Add,
        );
        return;
    }
    let threads = team::threads();
    let bands = threads * rows.div_ceil(threads * BAND);
    let band = rows.div_ceil(bands).next_multiple_of(w.by.rows());
    team::each_chunk(c, band * w.outputs, |index, c| {
        let (first, rows) = (index * band, c.len() / w.outputs);
        let a = &a[first * w.inputs..][..rows * w.inputs];
        one_band((c, a, (first, rows)), w, into, runs);
    });
}

/// A band of rows (first, count).
fn one_band(
    (c, a, (row, rows)): (&mut [f32], &[f32], (usize, usize)),
    w: &Packed,
    into: Into,
    runs: &Grouped<'_>,
) {
    let mut rounded = Left::new(w.by);
    for first in (0..w.inputs).step_by(DEPTH) {
        let depth = first..(first + DEPTH).min(w.inputs);
        rounded.round(a, w.inputs, depth.clone());
        let into = if first == 0 { into } else { Into::Add };
        for (panel, column) in (0..w.outputs).step_by(w.by.columns()).enumerate() {
            let lines = w.panel(panel, &depth);
            let columns = column..(column + w.by.columns()).min(w.outputs);
            let mut place = Columns::of(c, (rows, w.outputs), (column, columns.len()));
            tile::rows_times_panel(&rounded, lines, &mut place, into);
            if depth.end == w.inputs {
                runs.multiply(row, columns, &mut place, Into::Add);
            }
        }
    }
}

/// Each task multiplies all rows by its panels, in the same order of sums as [`one_band`], so that a
/// row's product does not depend on how many there are.
fn few_rows(c: &mut [f32], (a, w): (&[f32], &Packed), rows: usize, into: Into) {
    if w.inputs == 0 {
        if into == Into::Replace {
            c.fill(0.0);
        }
        return;
    }
    let depths: Vec<Range<usize>> =
        (0..w.inputs).step_by(DEPTH).map(|first| first..(first + DEPTH).min(w.inputs)).collect();
    let round = |depth: &Range<usize>| {
        let mut rounded = Left::new(w.by);
        rounded.round(a, w.inputs, depth.clone());
        rounded
    };
    let rounded: Vec<Left> = depths.iter().map(round).collect();
    let panels = COLUMNS / w.by.columns();
    for_bands_of_columns(c, (rows, w.outputs), COLUMNS, |index, mut place| {
        for (panel, mut place) in (index * panels..).zip(place.parts(w.by.columns())) {
            for (depth, rounded) in depths.iter().zip(&rounded) {
                let lines = w.panel(panel, depth);
                let into = if depth.start == 0 { into } else { Into::Add };
                tile::rows_times_panel(rounded, lines, &mut place, into);
            }
        }
    });
}

/// The bits of the nearest bf16, ties to even; NaN stays NaN.
#[expect(
    clippy::inline_always,
    reason = "inlined into a multiversioned loop it becomes vector code"
)]
#[inline(always)]
pub(super) fn round(value: f32) -> u16 {
    let bits = value.to_bits();
    let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    let quiet = bits >> 16 | 0x40;
    (if value.is_nan() { quiet } else { nearest }) as u16
}

#[cfg(test)]
mod tests;
