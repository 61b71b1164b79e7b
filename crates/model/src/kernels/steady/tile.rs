//! The inner loop: a few rows times up to 64 columns, all sums in registers.

#[cfg(target_arch = "x86_64")]
mod alone;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod plain;
mod weight;

pub(crate) use weight::Weight;

use std::ops::Range;

use super::{
    super::{columns::Columns, gemm::Into, instructions::Instructions},
    Rows,
};

/// Columns of the widest tile: four vectors of sixteen. The others are divisors of it.
pub(super) const WIDTH: usize = 64;

/// Columns that the loop that runs here multiplies together.
pub(crate) fn columns_of_a_tile() -> usize {
    #[cfg(target_arch = "x86_64")]
    if !avx512::is_supported() && avx2::is_supported() {
        return avx2::COLUMNS;
    }
    WIDTH
}

/// What the loop that runs here is made of.
pub(crate) fn instructions() -> Instructions {
    #[cfg(target_arch = "x86_64")]
    if avx512::is_supported() {
        return Instructions::Avx512;
    } else if avx2::is_supported() {
        return Instructions::Avx2;
    }
    Instructions::Plain
}

/// Element (i, k) is `values[i * row + k * step]`.
#[derive(Clone, Copy)]
pub(crate) struct Left<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) row: usize,
    pub(crate) step: usize,
}

/// Element (k, j) is `values[k * stride + j]`.
#[derive(Clone, Copy)]
pub(crate) struct Right<'a, T> {
    pub(crate) values: &'a [T],
    pub(crate) stride: usize,
}

/// c = scale · a · b, or c += scale · a · b, for as many rows and columns as c has. Every element is
/// one chain of fused multiply-adds over `depth`, then scaled, then added.
pub(crate) fn product<T: Weight>(
    a: Left<'_>,
    (b, depth): (Right<'_, T>, usize),
    scale: f32,
    c: &mut Columns<'_>,
    into: Into,
) {
    if c.rows == 0 || c.width == 0 {
        return;
    }
    assert!(c.width <= WIDTH, "a tile wider than its registers");
    if let Some(last) = depth.checked_sub(1) {
        let a_end = (c.rows - 1) * a.row + last * a.step;
        assert!(a_end < a.values.len(), "the left side leaves its slice");
        assert!(last * b.stride + c.width <= b.values.len(), "the right side leaves its slice");
    }
    #[cfg(target_arch = "x86_64")]
    if avx512::is_supported() {
        // As tall as leaves registers for the addresses of the rows.
        match c.width.div_ceil(16) {
            1 => avx512::column::<T, 8, 1>(a, (b, depth), scale, c, into),
            2 => avx512::column::<T, 8, 2>(a, (b, depth), scale, c, into),
            3 => avx512::column::<T, 8, 3>(a, (b, depth), scale, c, into),
            _ => avx512::column::<T, 6, 4>(a, (b, depth), scale, c, into),
        }
        return;
    }
    #[cfg(target_arch = "x86_64")]
    if avx2::is_supported() {
        avx2::column(a, (b, depth), scale, c, into);
        return;
    }
    plain::column(a, (b, depth), scale, c, into);
}

/// Rows of c become x · w, or that is added to them, for runs of up to R rows that each have a w
/// `[x.width, c.width]` of their own, in panels; false where no loop is made for that.
pub(super) fn alone<T: Weight, const G: usize, const R: usize>(
    given: ([Rows<'_>; G], [&[T]; G]),
    panel: usize,
    c: (&mut Columns<'_>, [Range<usize>; G]),
    into: Into,
) -> bool {
    #[cfg(target_arch = "x86_64")]
    if avx512::is_supported() && panel <= WIDTH {
        alone::runs::<T, G, R>(given, panel, c, into);
        return true;
    }
    false
}
