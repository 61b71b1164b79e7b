//! f32 products in which a row's result does not depend on how many rows there are.
//!
//! Every element is one chain of fused multiply-adds in the order of the inner dimension, whoever
//! computes it: a token's scores are the same bits alone, beside others, and in any chunk of a
//! prompt. Nothing is repacked, so that weights are read once, also for a single row.

mod gradient;
mod grouped;
mod tile;

use std::ops::Range;

use half::f16;
use understudy_team as team;

pub(crate) use gradient::{Adapted, Map, gradients};
pub(crate) use grouped::{Grouped, Run, TOGETHER, is_short};
use tile::WIDTH;
pub(crate) use tile::{Left, Right, Weight, columns_of_a_tile, instructions, product};

use super::{
    columns::{Columns, for_bands_of_columns},
    gemm::Into,
    panels,
};

/// Rows that one task multiplies.
const BAND: usize = 96;

/// From this many rows on, threads take bands of rows; with fewer they share the columns, so that
/// each weight is read from memory by one of them.
const BANDS_FROM: usize = 64;

/// Rows of a transposed right side that one task reads: whole tiles, few enough to be still in the
/// second-level cache when they are read again for other columns.
const ROWS_AT_ONCE: usize = 96;

/// Rows inside wider rows: `rows` lie `stride` apart, and `width` values of each count.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows<'a, T = f32> {
    pub(crate) values: &'a [T],
    pub(crate) width: usize,
    pub(crate) stride: usize,
}

impl<'a, T> Rows<'a, T> {
    pub(crate) fn whole(values: &'a [T], width: usize) -> Self {
        Self { values, width, stride: width }
    }

    pub(super) fn from(self, row: usize) -> &'a [T] {
        &self.values[row * self.stride..]
    }
}

impl<'a> Rows<'a> {
    /// One row, without what lies between it and the next.
    fn row(self, row: usize) -> &'a [f32] {
        &self.from(row)[..self.width]
    }

    fn left(self) -> Left<'a> {
        Left { values: self.values, row: self.stride, step: 1 }
    }
}

/// A right side `[depth, width]`: columns in groups of `panel`, each group's rows adjacent, the last
/// one perhaps narrower. One group as wide as all is row-major.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Panels<'a, T = f32> {
    pub(crate) values: &'a [T],
    depth: usize,
    width: usize,
    panel: usize,
}

impl<'a, T> Panels<'a, T> {
    /// Row-major values.
    pub(crate) fn whole(values: &'a [T], width: usize) -> Self {
        Self { values, depth: values.len() / width.max(1), width, panel: width.max(1) }
    }

    /// Values in panels as wide as those that [`panels::pack`] makes.
    pub(crate) fn packed(values: &'a [T], width: usize) -> Self {
        Self { panel: panels::width(), ..Self::whole(values, width) }
    }

    /// Whether some columns begin where a panel does, and end where one does.
    fn are_whole_panels(self, columns: &Range<usize>) -> bool {
        let is_edge = |column: usize| column.is_multiple_of(self.panel) || column == self.width;
        is_edge(columns.start) && is_edge(columns.end)
    }

    /// Some columns in the parts that lie in one panel and are no wider than a tile, with where they
    /// begin.
    fn tiles(self, columns: Range<usize>) -> impl Iterator<Item = (Range<usize>, Right<'a, T>)> {
        let mut next = columns.start;
        std::iter::from_fn(move || {
            let (first, start) = (next, next / self.panel * self.panel);
            let panel = start..(start + self.panel).min(self.width);
            next = columns.end.min(panel.end).min(first + WIDTH);
            let values = self.values.get(start * self.depth + first - start..)?;
            (first < next).then_some((first..next, Right { values, stride: panel.len() }))
        })
    }
}

/// A right side in either of the precisions that adapters are held in.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Held<'a> {
    Plain(Panels<'a>),
    Half(Panels<'a, f16>),
}

impl Held<'_> {
    fn depth(&self) -> usize {
        match self {
            Self::Plain(w) => w.depth,
            Self::Half(w) => w.depth,
        }
    }
}

/// c becomes x times some columns of w, as many as c has, or that is added to it; within one thread.
pub(crate) fn multiply<T: Weight>(
    x: Rows<'_>,
    (w, columns): (Panels<'_, T>, Range<usize>),
    c: &mut Columns<'_>,
    into: Into,
) {
    assert_eq!(c.width, columns.len(), "as many columns as are asked for");
    let first = columns.start;
    for (columns, right) in w.tiles(columns) {
        let mut place = c.part(0..c.rows, columns.start - first..columns.end - first);
        product(x.left(), (right, x.width), 1.0, &mut place, into);
    }
}

/// c (+)= x · w for row-major c and x and for w in panels, on all threads.
pub(crate) fn times_panels(c: &mut [f32], x: &[f32], w: &[f32], rows: usize, into: Into) {
    if c.is_empty() {
        return;
    }
    let (inner, outputs) = (x.len() / rows, c.len() / rows);
    assert_eq!((x.len(), c.len(), w.len()), (rows * inner, rows * outputs, inner * outputs));
    // Panels side by side, from that of column `first` on.
    let multiply = |x: &[f32], first: usize, mut place: Columns<'_>| {
        for (index, mut place) in place.parts(panels::width()).enumerate() {
            let (first, width) = (first + index * panels::width(), place.width);
            let values = &w[first * inner..(first + width) * inner];
            let right = Right { values, stride: width };
            product(Rows::whole(x, inner).left(), (right, inner), 1.0, &mut place, into);
        }
    };
    if rows < BANDS_FROM {
        for_bands_of_columns(c, (rows, outputs), WIDTH, |index, place| {
            multiply(x, index * WIDTH, place);
        });
        return;
    }
    let threads = team::threads();
    let bands = threads * rows.div_ceil(threads * BAND);
    let band = rows.div_ceil(bands);
    team::each_chunk(c, band * outputs, |index, c| {
        let rows = c.len() / outputs;
        multiply(&x[index * band * inner..], 0, Columns::of(c, (rows, outputs), (0, outputs)));
    });
}

/// out `[rows, w_rows]` = x `[rows, inner]` · wᵀ for w `[w_rows, inner]`, on all threads.
pub(crate) fn times_transposed(x: &[f32], w: &[f32], rows: usize, out: &mut [f32]) {
    if out.is_empty() {
        return;
    }
    let (inner, w_rows) = (x.len() / rows, out.len() / rows);
    assert_eq!((x.len(), out.len(), w.len()), (rows * inner, rows * w_rows, w_rows * inner));
    let chunks = out.chunks_mut(WIDTH * w_rows).zip(x.chunks(WIDTH * inner));
    for (out, x) in chunks {
        let rows = out.len() / w_rows;
        // The few rows of x are turned, and w stands on the left as it lies. Columns are added until
        // they are whole vectors.
        let width = rows.next_multiple_of(8);
        let mut turned = vec![0.0; inner * width];
        for (row, x) in x.chunks_exact(inner).enumerate() {
            turned[row..].iter_mut().step_by(width).zip(x).for_each(|(to, x)| *to = *x);
        }
        for_bands_of_columns(out, (rows, w_rows), ROWS_AT_ONCE, |index, mut columns| {
            let w = Rows::whole(&w[index * ROWS_AT_ONCE * inner..], inner);
            let right = Right { values: &turned, stride: width };
            let mut part = vec![0.0; columns.width * width];
            let mut place = Columns::of(&mut part, (columns.width, width), (0, width));
            product(w.left(), (right, inner), 1.0, &mut place, Into::Replace);
            for row in 0..rows {
                let values = part.iter().skip(row).step_by(width);
                columns.row(row).iter_mut().zip(values).for_each(|(out, value)| *out = *value);
            }
        });
    }
}

#[cfg(test)]
mod tests;
