//! The loop with sums in 256-bit registers, for processors without wider ones.

#![expect(unsafe_code, reason = "fused multiply-add is reached through intrinsics over pointers")]

use std::arch::x86_64::{
    __m256, __m256i, _MM_HINT_T0, _mm_loadu_si128, _mm_prefetch, _mm256_add_ps, _mm256_cmpgt_epi32,
    _mm256_cvtph_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_maskload_ps, _mm256_maskstore_ps,
    _mm256_mul_ps, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setr_epi32, _mm256_setzero_ps,
    _mm256_storeu_ps,
};

use half::f16;

use super::{
    super::super::{columns::Columns, gemm::Into},
    Left, Right, Weight,
};
use crate::kernels::instructions::{Instructions, allowed};

/// Columns of a tile: two vectors, so that six rows of sums leave registers for what they need.
pub(super) const COLUMNS: usize = 16;

/// Rows of the tallest tile.
const ROWS: usize = 6;

/// Rows of the tallest tile of one vector: as many sums as keep both multipliers busy.
const ROWS_OF_ONE: usize = 8;

const LANES: usize = 8;

/// How many bytes ahead of those being multiplied weights are called for, as in the wider loop.
const AHEAD: usize = 4096;

pub(super) fn is_supported() -> bool {
    allowed(Instructions::Avx2)
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
}

/// # Safety
///
/// As for [`Weight::load_eight`].
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn load_f32(from: *const f32, lanes: usize) -> __m256 {
    // SAFETY: the caller's; masked lanes are not read.
    unsafe {
        if lanes >= LANES { _mm256_loadu_ps(from) } else { _mm256_maskload_ps(from, mask(lanes)) }
    }
}

/// # Safety
///
/// As for [`Weight::load_eight`].
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) unsafe fn load_f16(from: *const f16, lanes: usize) -> __m256 {
    let mut few = [f16::ZERO; LANES];
    let from = if lanes >= LANES {
        from
    } else {
        // SAFETY: the caller has so many values, and the array has more places.
        unsafe { from.copy_to_nonoverlapping(few.as_mut_ptr(), lanes) };
        few.as_ptr()
    };
    // SAFETY: eight values of sixteen bits lie there.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(from.cast()) })
}

/// The first lanes.
#[inline]
#[target_feature(enable = "avx2")]
fn mask(lanes: usize) -> __m256i {
    let all = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    _mm256_cmpgt_epi32(_mm256_set1_epi32(lanes as i32), all)
}

/// Sixteen columns at a time, of them up to six rows at a time, as evenly as can be: two rows alone
/// would not keep both multipliers busy. The caller has checked bounds and instructions.
pub(super) fn column<T: Weight>(
    a: Left<'_>,
    (b, depth): (Right<'_, T>, usize),
    scale: f32,
    c: &mut Columns<'_>,
    into: Into,
) {
    let (rows, stride, add) = (c.rows, c.stride, into == Into::Add);
    for first in (0..c.width).step_by(COLUMNS) {
        let cols = COLUMNS.min(c.width - first);
        let tallest = if cols > LANES { ROWS } else { ROWS_OF_ONE };
        let (mut row, tiles) = (0, rows.div_ceil(tallest));
        for tile in 0..tiles {
            let height = (rows - row).div_ceil(tiles - tile);
            let left =
                if depth == 0 { a.values.as_ptr() } else { a.values[row * a.row..].as_ptr() };
            let right = b.values.as_ptr().wrapping_add(first);
            let operands =
                Operands { a: left, row: a.row, step: a.step, b: right, b_stride: b.stride, depth };
            let place = Place { c: c.pointer(row).wrapping_add(first), stride, cols, add, scale };
            // SAFETY: `product` has checked all rows and columns, of which these are some; it has
            // checked for the instructions as well.
            unsafe {
                if cols > LANES {
                    of_two::<T>(height, &operands, &place);
                } else {
                    of_one::<T>(height, &operands, &place);
                }
            }
            row += height;
        }
    }
}

struct Operands<T> {
    a: *const f32,
    row: usize,
    step: usize,
    b: *const T,
    b_stride: usize,
    depth: usize,
}

struct Place {
    c: *mut f32,
    stride: usize,
    cols: usize,
    add: bool,
    scale: f32,
}

/// Up to [`ROWS`] rows of two vectors.
///
/// # Safety
///
/// As for [`tile`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn of_two<T: Weight>(height: usize, of: &Operands<T>, to: &Place) {
    // SAFETY: the caller's.
    unsafe {
        match height {
            1 => whole_or_not::<T, 1, 2>(of, to),
            2 => whole_or_not::<T, 2, 2>(of, to),
            3 => whole_or_not::<T, 3, 2>(of, to),
            4 => whole_or_not::<T, 4, 2>(of, to),
            5 => whole_or_not::<T, 5, 2>(of, to),
            _ => whole_or_not::<T, ROWS, 2>(of, to),
        }
    }
}

/// Up to [`ROWS_OF_ONE`] rows of one vector.
///
/// # Safety
///
/// As for [`tile`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn of_one<T: Weight>(height: usize, of: &Operands<T>, to: &Place) {
    // SAFETY: the caller's.
    unsafe {
        match height {
            1 => whole_or_not::<T, 1, 1>(of, to),
            2 => whole_or_not::<T, 2, 1>(of, to),
            3 => whole_or_not::<T, 3, 1>(of, to),
            4 => whole_or_not::<T, 4, 1>(of, to),
            5 => whole_or_not::<T, 5, 1>(of, to),
            6 => whole_or_not::<T, 6, 1>(of, to),
            7 => whole_or_not::<T, 7, 1>(of, to),
            _ => whole_or_not::<T, ROWS_OF_ONE, 1>(of, to),
        }
    }
}

/// # Safety
///
/// As for [`tile`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn whole_or_not<T: Weight, const R: usize, const V: usize>(of: &Operands<T>, to: &Place) {
    // SAFETY: the caller's.
    unsafe {
        if to.cols == LANES * V {
            tile::<T, R, V, true>(of, to);
        } else {
            tile::<T, R, V, false>(of, to);
        }
    }
}

/// # Safety
///
/// `a` reaches to (R − 1) · row + (depth − 1) · step, `b` holds depth rows of `cols` columns, no
/// more than V vectors have lanes, and `c` has R rows of as many.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tile<T: Weight, const R: usize, const V: usize, const WHOLE: bool>(
    of: &Operands<T>,
    to: &Place,
) {
    let lanes: [usize; V] = std::array::from_fn(|vector| {
        if WHOLE { LANES } else { to.cols.saturating_sub(LANES * vector).min(LANES) }
    });
    let mut sums = [[_mm256_setzero_ps(); V]; R];
    let (mut a, mut b) = (of.a, of.b);
    for _ in 0..of.depth {
        let mut w = [_mm256_setzero_ps(); V];
        _mm_prefetch::<_MM_HINT_T0>(b.wrapping_byte_add(AHEAD).cast());
        for (vector, (w, lanes)) in w.iter_mut().zip(lanes).enumerate() {
            // SAFETY: whole vectors lie in `b`, and otherwise no more columns are named than it has.
            *w = unsafe { T::load_eight(b.wrapping_add(LANES * vector), lanes) };
        }
        for (row, sums) in sums.iter_mut().enumerate() {
            // SAFETY: row < R at a step below depth.
            let x = _mm256_set1_ps(unsafe { *a.add(row * of.row) });
            for (sum, w) in sums.iter_mut().zip(w) {
                *sum = _mm256_fmadd_ps(x, w, *sum);
            }
        }
        (a, b) = (a.wrapping_add(of.step), b.wrapping_add(of.b_stride));
    }
    let scale = _mm256_set1_ps(to.scale);
    for (row, sums) in sums.into_iter().enumerate() {
        for (vector, (sum, lanes)) in sums.into_iter().zip(lanes).enumerate() {
            let place = to.c.wrapping_add(row * to.stride + LANES * vector);
            let scaled = _mm256_mul_ps(sum, scale);
            // SAFETY: `c` has these columns in its rows below R, and masked lanes are not touched.
            unsafe {
                let old = if to.add { load_f32(place, lanes) } else { _mm256_setzero_ps() };
                let new = _mm256_add_ps(old, scaled);
                if lanes == LANES {
                    _mm256_storeu_ps(place, new);
                } else {
                    _mm256_maskstore_ps(place, mask(lanes), new);
                }
            }
        }
    }
}
