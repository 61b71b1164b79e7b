//! The loop with sums in 256-bit registers, for processors without the dot product of pairs: a bf16
//! is the upper half of an f32, so both of a pair are widened in one instruction each, while other
//! units multiply. Sums are chains of fused multiply-adds in the order of the inputs.

#![expect(unsafe_code, reason = "vector loads and stores take pointers")]

use std::{
    arch::x86_64::{
        __m256i, _MM_HINT_T0, _mm_prefetch, _mm256_and_si256, _mm256_castsi256_ps, _mm256_fmadd_ps,
        _mm256_load_si256, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_ps, _mm256_slli_epi32,
    },
    ptr,
};

use super::{
    super::super::avx2::{LANES, store},
    Line, Tile,
};
use crate::kernels::instructions::{Instructions, allowed};

/// How many lines ahead of those being multiplied weights are called for.
const AHEAD: usize = 64;

/// Rows of the tallest tile: eight sums, four vectors of weights and what they come from. Six rows
/// measured slower.
const ROWS: usize = 4;

pub(super) fn is_supported() -> bool {
    allowed(Instructions::Avx2)
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
}

/// All rows of a panel's product, up to four at a time, as evenly as can be. The caller has checked
/// bounds and instructions.
pub(super) fn panel(of: &mut Tile<'_, '_, f32>) {
    let (mut first, tiles) = (0, of.c.rows.div_ceil(ROWS));
    for tile in 0..tiles {
        let height = (of.c.rows - first).div_ceil(tiles - tile);
        // SAFETY: whoever calls `panel` has checked the instructions and the lengths of all rows,
        // of which these are some.
        unsafe {
            match height {
                1 => self::tile::<1>(of, first),
                2 => self::tile::<2>(of, first),
                3 => self::tile::<3>(of, first),
                _ => self::tile::<ROWS>(of, first),
            }
        }
        first += height;
    }
}

/// R rows from `first` on.
///
/// # Safety
///
/// `a` holds those rows of `stride` values each, two of them to a line of `lines`.
#[target_feature(enable = "avx2,fma")]
unsafe fn tile<const R: usize>(of: &mut Tile<'_, '_, f32>, first: usize) {
    let upper = _mm256_set1_epi32(0xffff_0000_u32 as i32);
    let mut sums = [[_mm256_setzero_ps(); 2]; R];
    let (stride, mut a) = (of.stride, of.a[first * of.stride..].as_ptr());
    for line in of.lines {
        _mm_prefetch::<_MM_HINT_T0>(ptr::from_ref(line).wrapping_add(AHEAD).cast());
        let pairs = load(line);
        let w = pairs.map(|pairs| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(pairs)));
        for (row, sums) in sums.iter_mut().enumerate() {
            // SAFETY: row < R, and `a` is at the first value of a pair within the first of the rows.
            let x = _mm256_set1_ps(unsafe { *a.add(row * stride) });
            for (sum, w) in sums.iter_mut().zip(w) {
                *sum = _mm256_fmadd_ps(x, w, *sum);
            }
        }
        let w = pairs.map(|pairs| _mm256_castsi256_ps(_mm256_and_si256(pairs, upper)));
        for (row, sums) in sums.iter_mut().enumerate() {
            // SAFETY: as above, of the second value.
            let x = _mm256_set1_ps(unsafe { *a.add(row * stride + 1) });
            for (sum, w) in sums.iter_mut().zip(w) {
                *sum = _mm256_fmadd_ps(x, w, *sum);
            }
        }
        a = a.wrapping_add(2);
    }
    for (row, sums) in sums.iter().enumerate() {
        store(sums, of.c.row(first + row), of.add);
    }
}

/// Both halves of a line.
#[inline]
#[target_feature(enable = "avx2")]
fn load(line: &Line) -> [__m256i; 2] {
    // SAFETY: half a line is as long as the vector and, lines being aligned to 64, aligned to it.
    let half = |at: usize| unsafe { _mm256_load_si256(line.0[at..at + LANES].as_ptr().cast()) };
    [half(0), half(LANES)]
}
