//! The loop with sums in 512-bit registers.

#![expect(unsafe_code, reason = "fused multiply-add is reached through intrinsics over pointers")]

use std::arch::x86_64::{
    __m512, _MM_HINT_T0, _mm_prefetch, _mm256_loadu_si256, _mm256_maskz_loadu_epi16, _mm512_add_ps,
    _mm512_cvtph_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_storeu_ps,
    _mm512_maskz_loadu_ps, _mm512_mul_ps, _mm512_set1_ps, _mm512_setzero_ps,
};

use half::f16;

use super::{
    super::super::{columns::Columns, gemm::Into},
    Left, Right, Weight,
};
use crate::kernels::instructions::{Instructions, allowed};

/// How many bytes ahead of those being multiplied weights are called for: the processor's own
/// guesses end with a page, and without this a step of eight rows takes twice as long.
pub(super) const AHEAD: usize = 4096;

pub(super) fn is_supported() -> bool {
    allowed(Instructions::Avx512)
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
}

/// # Safety
///
/// As for [`Weight::load`].
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn load_f32(from: *const f32, mask: u16) -> __m512 {
    // SAFETY: the caller's.
    unsafe {
        if mask == u16::MAX { _mm512_loadu_ps(from) } else { _mm512_maskz_loadu_ps(mask, from) }
    }
}

/// # Safety
///
/// As for [`Weight::load`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) unsafe fn load_f16(from: *const f16, mask: u16) -> __m512 {
    // SAFETY: the caller's; the type is its sixteen bits.
    _mm512_cvtph_ps(unsafe {
        if mask == u16::MAX {
            _mm256_loadu_si256(from.cast())
        } else {
            _mm256_maskz_loadu_epi16(mask, from.cast())
        }
    })
}

/// All rows, R at a time, what is left over four to one at a time. The caller has checked
/// bounds and instructions.
pub(super) fn column<T: Weight, const R: usize, const V: usize>(
    a: Left<'_>,
    (b, depth): (Right<'_, T>, usize),
    scale: f32,
    c: &mut Columns<'_>,
    into: Into,
) {
    let (rows, cols, stride, add) = (c.rows, c.width, c.stride, into == Into::Add);
    let mut row = 0;
    while row < rows {
        let height = [R, 4, 3, 2].into_iter().find(|height| rows - row >= *height).unwrap_or(1);
        let left = if depth == 0 { a.values.as_ptr() } else { a.values[row * a.row..].as_ptr() };
        let place = c.pointer(row);
        let operands = Operands { a: left, row: a.row, step: a.step, b, cols, depth, scale };
        // SAFETY: `product` has checked all `rows` rows, of which these are `height`; it has
        // checked for the instructions as well.
        unsafe {
            match height {
                1 => whole_or_not::<T, 1, V>(operands, place, stride, add),
                2 => whole_or_not::<T, 2, V>(operands, place, stride, add),
                3 => whole_or_not::<T, 3, V>(operands, place, stride, add),
                4 => whole_or_not::<T, 4, V>(operands, place, stride, add),
                _ => whole_or_not::<T, R, V>(operands, place, stride, add),
            }
        }
        row += height;
    }
}

struct Operands<'a, T> {
    a: *const f32,
    row: usize,
    step: usize,
    b: Right<'a, T>,
    cols: usize,
    depth: usize,
    scale: f32,
}

/// # Safety
///
/// As for [`tile`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn whole_or_not<T: Weight, const R: usize, const V: usize>(
    of: Operands<'_, T>,
    c: *mut f32,
    stride: usize,
    add: bool,
) {
    // SAFETY: the caller's.
    unsafe {
        if of.cols == 16 * V {
            tile::<T, R, V, true>(of, c, stride, add);
        } else {
            tile::<T, R, V, false>(of, c, stride, add);
        }
    }
}

/// Whether a tile is rather tall than wide. What stands on the left of those may be a matrix of
/// thousands of rows, as the head's is when few are multiplied by it; a tile's rows are too short for
/// the processor to foresee the next tile's, so those are called for, a line of them for each line
/// that is read. Decoding in f32 by one row the head took 10.2 ms without it and 6.3 with it.
const fn is_tall<const R: usize, const V: usize>() -> bool {
    R == 8 && V <= 2
}

/// # Safety
///
/// `a` reaches to (R − 1) · row + (depth − 1) · step, `b` holds depth rows of `cols` ≤ 16 · V
/// columns, and `c` has R rows of as many.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn tile<T: Weight, const R: usize, const V: usize, const WHOLE: bool>(
    of: Operands<'_, T>,
    c: *mut f32,
    stride: usize,
    add: bool,
) {
    let masks: [u16; V] = std::array::from_fn(|vector| {
        let here = of.cols.saturating_sub(16 * vector).min(16);
        ((1_u32 << here) - 1) as u16
    });
    let mut sums = [[_mm512_setzero_ps(); V]; R];
    let (mut a, mut b) = (of.a, of.b.values.as_ptr());
    let next_rows = of.a.wrapping_add(R * of.row);
    for k in 0..of.depth {
        if is_tall::<R, V>() && k.is_multiple_of(16 / R) {
            _mm_prefetch::<_MM_HINT_T0>(next_rows.wrapping_add(k * R).cast());
        }
        let mut w = [_mm512_setzero_ps(); V];
        for (vector, (w, mask)) in w.iter_mut().zip(masks).enumerate() {
            let from = b.wrapping_add(16 * vector);
            // SAFETY: whole vectors lie in `b`, and the mask leaves only columns that it has. A
            // prefetch may name any place.
            *w = unsafe {
                _mm_prefetch::<_MM_HINT_T0>(from.wrapping_byte_add(AHEAD).cast());
                T::load(from, if WHOLE { u16::MAX } else { mask })
            };
        }
        for (row, sums) in sums.iter_mut().enumerate() {
            // SAFETY: row < R at a step below depth.
            let x = _mm512_set1_ps(unsafe { *a.add(row * of.row) });
            for (sum, w) in sums.iter_mut().zip(w) {
                *sum = _mm512_fmadd_ps(x, w, *sum);
            }
        }
        (a, b) = (a.wrapping_add(of.step), b.wrapping_add(of.b.stride));
    }
    let scale = _mm512_set1_ps(of.scale);
    for (row, sums) in sums.into_iter().enumerate() {
        for (vector, (sum, mask)) in sums.into_iter().zip(masks).enumerate() {
            let to = c.wrapping_add(row * stride + 16 * vector);
            let scaled = _mm512_mul_ps(sum, scale);
            // SAFETY: the mask leaves only columns that `c` has in its rows below R.
            unsafe {
                let old = if add { _mm512_maskz_loadu_ps(mask, to) } else { _mm512_setzero_ps() };
                _mm512_mask_storeu_ps(to, mask, _mm512_add_ps(old, scaled));
            }
        }
    }
}
