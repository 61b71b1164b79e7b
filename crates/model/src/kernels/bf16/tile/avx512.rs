//! The loop with sums in 512-bit registers, by the dot product of pairs of bf16.

#![expect(unsafe_code, reason = "the instruction is reached through an intrinsic over pointers")]

use std::{
    arch::x86_64::{
        __m512bh, __m512i, _MM_HINT_T0, _mm_prefetch, _mm512_add_ps, _mm512_dpbf16_ps,
        _mm512_load_si512, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_set1_epi32,
        _mm512_setzero_ps,
    },
    mem::transmute,
    ptr,
};

use super::Tile;
use crate::kernels::instructions::{Instructions, allowed};

/// Lines of a pair of inputs: four vectors of sixteen columns.
pub(super) const LINES: usize = 4;

/// How many lines ahead of those being multiplied weights are called for.
const AHEAD: usize = 64;

/// Rows of a tile. With four vectors of weights, 6 × 4 sums and a broadcast pair fill 29 of 32
/// registers; taller and narrower tiles measured slower.
const ROWS: usize = 6;

pub(super) fn is_supported() -> bool {
    allowed(Instructions::Avx512)
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bf16")
}

/// All rows of a panel's product. The caller has checked bounds and instructions.
pub(super) fn panel(of: &mut Tile<'_, '_, u16>) {
    let rows = of.c.rows;
    for first in (0..rows).step_by(ROWS) {
        // SAFETY: the caller has checked the instructions and the operands' lengths for all rows,
        // of which these are some.
        unsafe {
            match rows - first {
                1 => tile::<1>(of, first),
                2 => tile::<2>(of, first),
                3 => tile::<3>(of, first),
                4 => tile::<4>(of, first),
                5 => tile::<5>(of, first),
                _ => tile::<ROWS>(of, first),
            }
        }
    }
}

/// # Safety
///
/// `a` holds R rows of `stride` values, an even number; `lines` holds LINES per pair of them;
/// `c` has R rows from `first` on, of at most 16 · LINES columns.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn tile<const R: usize>(of: &mut Tile<'_, '_, u16>, first: usize) {
    let Tile { a, stride, lines, ref mut c, add } = *of;
    let a = &a[first * stride..];
    let (width, c_stride) = (c.width, c.stride);
    let mut sums = [[_mm512_setzero_ps(); LINES]; R];
    let (a, c) = (a.as_ptr().cast::<[u16; 2]>(), c.pointer(first));
    let stride = stride / 2;
    for (pair, lines) in lines.as_chunks::<LINES>().0.iter().enumerate() {
        for line in lines {
            _mm_prefetch::<_MM_HINT_T0>(ptr::from_ref(line).wrapping_add(AHEAD).cast());
        }
        // SAFETY: a line is sixteen u32, aligned to the vector's size.
        let w = lines.each_ref().map(|line| unsafe { _mm512_load_si512(line.0.as_ptr().cast()) });
        for (row, sums) in sums.iter_mut().enumerate() {
            // SAFETY: pair < stride and row < R, so the pair lies in `a`.
            let both = unsafe { transmute::<[u16; 2], i32>(*a.add(row * stride + pair)) };
            for (sum, w) in sums.iter_mut().zip(w) {
                // SAFETY: all are 512 bits without invalid values.
                let (x, w) = unsafe {
                    (
                        transmute::<__m512i, __m512bh>(_mm512_set1_epi32(both)),
                        transmute::<__m512i, __m512bh>(w),
                    )
                };
                *sum = _mm512_dpbf16_ps(*sum, x, w);
            }
        }
    }
    for (row, sums) in sums.into_iter().enumerate() {
        for (line, sum) in sums.into_iter().enumerate() {
            let here = width.saturating_sub(16 * line).min(16);
            let mask = ((1_u32 << here) - 1) as u16;
            // SAFETY: masked lanes are not touched, the others lie before column `width`.
            unsafe {
                let to = c.wrapping_add(row * c_stride + 16 * line);
                let old = if add { _mm512_maskz_loadu_ps(mask, to) } else { _mm512_setzero_ps() };
                _mm512_mask_storeu_ps(to, mask, _mm512_add_ps(old, sum));
            }
        }
    }
}
