//! The loop by the dot product of unsigned and signed bytes, for processors that have it in 256-bit
//! registers only.

#![expect(unsafe_code, reason = "functions of a processor's own instructions are unsafe to call")]

use std::{
    arch::x86_64::{
        __m256i, _MM_HINT_T0, _mm_prefetch, _mm256_and_si256, _mm256_cvtepi32_ps,
        _mm256_dpbusd_avx_epi32, _mm256_fmadd_ps, _mm256_mul_ps, _mm256_set1_epi8,
        _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_ps, _mm256_setzero_si256,
        _mm256_srli_epi16,
    },
    ptr,
};

use super::{
    super::{super::avx2::store, Bits, GROUPS, Panel, WIDTH, inputs::Inputs},
    Columns, Line, avx2,
    narrow::{AHEAD, Codes, VECTORS, codes, load, spread, tiles, widened},
};
use crate::kernels::instructions::{Instructions, allowed};

pub(super) fn is_supported() -> bool {
    allowed(Instructions::AvxVnni) && avx2::is_supported() && is_x86_feature_detected!("avxvnni")
}

tiles!("avx2,fma,f16c,avxvnni");

/// Σ weight · code over one block, for every row and V vectors of outputs from `start` on.
#[inline]
#[target_feature(enable = "avx2,avxvnni")]
fn eight<const R: usize, const V: usize>(
    codes: [Codes<'_>; R],
    totals: [i32; R],
    lines: &[Line],
    start: usize,
) -> [[__m256i; V]; R] {
    // Weights are held 128 higher than they are.
    let mut exact = totals.map(|total| [_mm256_set1_epi32(-128 * total); V]);
    for group in 0..GROUPS {
        for vector in 0..V {
            let half = VECTORS * group + start + vector;
            let weights = load(&lines[half / 2], half % 2);
            for (exact, codes) in exact.iter_mut().zip(codes) {
                exact[vector] =
                    _mm256_dpbusd_avx_epi32(exact[vector], weights, spread(codes[group]));
            }
        }
    }
    exact
}

/// The same of weights in four bits, of which a line holds those of two groups.
#[inline]
#[target_feature(enable = "avx2,avxvnni")]
fn four<const R: usize, const V: usize>(
    codes: [Codes<'_>; R],
    lines: &[Line],
    start: usize,
) -> [[__m256i; V]; R] {
    let mut exact = [[_mm256_setzero_si256(); V]; R];
    let low = _mm256_set1_epi8(15);
    for group in 0..GROUPS / 2 {
        for vector in 0..V {
            let half = VECTORS * group + start + vector;
            let both = load(&lines[half / 2], half % 2);
            let under = _mm256_and_si256(both, low);
            let over = _mm256_and_si256(_mm256_srli_epi16::<4>(both), low);
            for (exact, codes) in exact.iter_mut().zip(codes) {
                let sum = _mm256_dpbusd_avx_epi32(exact[vector], under, spread(codes[group]));
                exact[vector] =
                    _mm256_dpbusd_avx_epi32(sum, over, spread(codes[group + GROUPS / 2]));
            }
        }
    }
    exact
}
