//! The loop for processors without the dot product of bytes.
//!
//! What they have instead multiplies unsigned bytes by signed ones and adds two products in sixteen
//! bits. In eight bits the sign of a weight goes over to the input, so that two products fit
//! (2 · 128 · 127 < 2¹⁵); they are widened at once. In four bits a whole block fits
//! (8 · 2 · 15 · 127 < 2¹⁵) and is widened at its end.

#![expect(unsafe_code, reason = "functions of a processor's own instructions are unsafe to call")]

use std::{
    arch::x86_64::{
        __m256i, _MM_HINT_T0, _mm_prefetch, _mm256_abs_epi8, _mm256_add_epi16, _mm256_add_epi32,
        _mm256_and_si256, _mm256_cvtepi32_ps, _mm256_fmadd_ps, _mm256_madd_epi16,
        _mm256_maddubs_epi16, _mm256_mul_ps, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_ps,
        _mm256_setzero_ps, _mm256_setzero_si256, _mm256_sign_epi8, _mm256_srli_epi16,
        _mm256_xor_si256,
    },
    ptr,
};

use super::{
    super::{super::avx2::store, Bits, GROUPS, Panel, WIDTH, inputs::Inputs},
    Columns, Line,
    narrow::{AHEAD, Codes, VECTORS, codes, load, spread, tiles, widened},
};
use crate::kernels::instructions::{Instructions, allowed};

pub(super) fn is_supported() -> bool {
    allowed(Instructions::Avx2)
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
}

tiles!("avx2,fma,f16c");

/// Σ weight · code over one block, for every row and V vectors of outputs from `start` on.
#[inline]
#[target_feature(enable = "avx2")]
fn eight<const R: usize, const V: usize>(
    codes: [Codes<'_>; R],
    _: [i32; R],
    lines: &[Line],
    start: usize,
) -> [[__m256i; V]; R] {
    let mut exact = [[_mm256_setzero_si256(); V]; R];
    // Weights are held 128 higher than they are, which is all but the highest bit.
    let (highest, ones) = (_mm256_set1_epi8(i8::MIN), _mm256_set1_epi16(1));
    for group in 0..GROUPS {
        for vector in 0..V {
            let half = VECTORS * group + start + vector;
            let weights = _mm256_xor_si256(load(&lines[half / 2], half % 2), highest);
            let sizes = _mm256_abs_epi8(weights);
            for (exact, codes) in exact.iter_mut().zip(codes) {
                let signed = _mm256_sign_epi8(spread(codes[group]), weights);
                let pairs = _mm256_maddubs_epi16(sizes, signed);
                exact[vector] = _mm256_add_epi32(exact[vector], _mm256_madd_epi16(pairs, ones));
            }
        }
    }
    exact
}

/// The same of weights in four bits, of which a line holds those of two groups.
#[inline]
#[target_feature(enable = "avx2")]
fn four<const R: usize, const V: usize>(
    codes: [Codes<'_>; R],
    lines: &[Line],
    start: usize,
) -> [[__m256i; V]; R] {
    let mut pairs = [[_mm256_setzero_si256(); V]; R];
    let (low, ones) = (_mm256_set1_epi8(15), _mm256_set1_epi16(1));
    for group in 0..GROUPS / 2 {
        for vector in 0..V {
            let half = VECTORS * group + start + vector;
            let both = load(&lines[half / 2], half % 2);
            let under = _mm256_and_si256(both, low);
            let over = _mm256_and_si256(_mm256_srli_epi16::<4>(both), low);
            for (pairs, codes) in pairs.iter_mut().zip(codes) {
                let under = _mm256_maddubs_epi16(under, spread(codes[group]));
                let over = _mm256_maddubs_epi16(over, spread(codes[group + GROUPS / 2]));
                pairs[vector] = _mm256_add_epi16(pairs[vector], _mm256_add_epi16(under, over));
            }
        }
    }
    pairs.as_flattened_mut().iter_mut().for_each(|sum| *sum = _mm256_madd_epi16(*sum, ones));
    pairs
}
