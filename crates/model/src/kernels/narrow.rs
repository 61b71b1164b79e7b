//! f32 products with one side as narrow as an adapter's rank, without repacking the other.
//!
//! A general product packs both sides, which here costs more than multiplying: the wide side is
//! read once, the narrow side has a few columns.

mod gradient;
mod tile;

use rayon::prelude::*;

pub(crate) use gradient::{Adapted, Map, gradients};
use tile::{Left, Right, WIDTH};

/// Rows that one task multiplies.
const BAND: usize = 96;

/// Rows inside wider rows: `rows` lie `stride` apart, and `width` values of each count.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) width: usize,
    pub(crate) stride: usize,
}

impl<'a> Rows<'a> {
    pub(crate) fn whole(values: &'a [f32], width: usize) -> Self {
        Self { values, width, stride: width }
    }

    pub(super) fn from(self, row: usize) -> &'a [f32] {
        &self.values[row * self.stride..]
    }
}

/// Columns `column..` of every row of `out`, `stride` apart, become scale · x · w, for w
/// `[x.width, cols]`.
pub(crate) fn times(
    x: Rows<'_>,
    w: Rows<'_>,
    scale: f32,
    out: &mut [f32],
    (column, stride): (usize, usize),
) {
    out.par_chunks_mut(BAND * stride).enumerate().for_each(|(band, out)| {
        let rows = out.len() / stride;
        let x_rows = x.from(band * BAND);
        for first in (0..w.width).step_by(WIDTH) {
            let cols = WIDTH.min(w.width - first);
            let left = Left { values: x_rows, row: x.stride, step: 1 };
            let right = Right { values: &w.values[first..], stride: w.stride, cols };
            let at = column + first;
            tile::product((left, rows), (right, x.width), scale, (&mut out[at..], stride), false);
        }
    });
}

/// c += u · w in columns `column..` of rows that lie `stride` apart, within one thread.
pub(super) fn add_times(
    (u, rows): (Rows<'_>, usize),
    w: Rows<'_>,
    c: &mut [f32],
    (column, stride): (usize, usize),
) {
    let left = Left { values: u.values, row: u.stride, step: 1 };
    for first in (0..w.width).step_by(WIDTH) {
        let cols = WIDTH.min(w.width - first);
        let right = Right { values: &w.values[first..], stride: w.stride, cols };
        let at = column + first;
        tile::product((left, rows), (right, u.width), 1.0, (&mut c[at..], stride), true);
    }
}

#[cfg(test)]
mod tests;
