//! The same loops with sums held in 256-bit registers, for processors without wider ones. They add in
//! the same order as those, and so to the same bits.

#![expect(unsafe_code, reason = "vector loads and stores take pointers")]

use std::arch::x86_64::{
    __m256, _MM_HINT_T0, _mm_prefetch, _mm256_fmadd_ps, _mm256_mul_ps, _mm256_set1_ps,
    _mm256_setzero_ps, _mm256_storeu_ps,
};

use super::grouped::{AHEAD, AT_ONCE, LINE, begins_line, in_groups};
use crate::{
    cache::BLOCK,
    kernels::{
        instructions::{Instructions, allowed},
        steady::Weight,
    },
};

/// Values of one vector.
const LANES: usize = 8;

/// Vectors of a block's tokens.
const PARTS: usize = BLOCK / LANES;

pub(super) fn is_supported() -> bool {
    allowed(Instructions::Avx2)
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
}

in_groups!();

#[target_feature(enable = "avx2,fma,f16c")]
fn score_group<T: Weight, const G: usize>(
    queries: &[f32],
    blocks: &[&[T]],
    dim: usize,
    scores: &mut [f32],
) {
    let padded = blocks.len() * BLOCK;
    let scale = _mm256_set1_ps(1.0 / (dim as f32).sqrt());
    let queries: [&[f32]; G] = std::array::from_fn(|head| &queries[head * dim..(head + 1) * dim]);
    for (index, block) in blocks.iter().enumerate() {
        // After the last keys come the first values.
        let soon = match blocks.get(index + AHEAD) {
            Some(block) => block.as_ptr(),
            None => blocks[(index + AHEAD) % blocks.len()].as_ptr().wrapping_add(BLOCK * dim),
        };
        let mut sums = [[_mm256_setzero_ps(); PARTS]; G];
        let keys = block.as_chunks::<LANES>().0[..PARTS * dim].as_chunks::<PARTS>().0;
        for (component, keys) in keys.iter().enumerate() {
            if begins_line::<T>(component * BLOCK) {
                _mm_prefetch::<_MM_HINT_T0>(soon.wrapping_add(component * BLOCK).cast());
            }
            let keys = keys.each_ref().map(|keys| load(keys));
            for (sums, query) in sums.iter_mut().zip(queries) {
                let query = _mm256_set1_ps(query[component]);
                for (sum, key) in sums.iter_mut().zip(keys) {
                    *sum = _mm256_fmadd_ps(query, key, *sum);
                }
            }
        }
        for (head, sums) in sums.into_iter().enumerate() {
            for (part, sum) in sums.into_iter().enumerate() {
                let at = head * padded + index * BLOCK + part * LANES;
                let place = scores[at..].first_chunk_mut();
                store(place.expect("a block of scores for each block"), _mm256_mul_ps(sum, scale));
            }
        }
    }
}

/// As many columns at a time as registers allow, two cache lines of a value row or one.
#[target_feature(enable = "avx2,fma,f16c")]
fn blend_group<T: Weight, const G: usize>(
    weights: &[f32],
    blocks: &[&[T]],
    (dim, context): (usize, usize),
    out: &mut [f32],
) {
    let mut column = 0;
    while G <= 3 && column + 2 * LINE <= dim {
        blend_columns::<T, G, 4>(weights, blocks, (dim, context, column), out);
        column += 2 * LINE;
    }
    while column < dim {
        blend_columns::<T, G, 2>(weights, blocks, (dim, context, column), out);
        column += LINE;
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn blend_columns<T: Weight, const G: usize, const V: usize>(
    weights: &[f32],
    blocks: &[&[T]],
    (dim, context, column): (usize, usize, usize),
    out: &mut [f32],
) {
    let padded = blocks.len() * BLOCK;
    let weights: [&[f32]; G] =
        std::array::from_fn(|head| &weights[head * padded..(head + 1) * padded]);
    let mut sums = [[_mm256_setzero_ps(); V]; G];
    let rows = blocks.iter().flat_map(|block| block[BLOCK * dim..].chunks_exact(dim));
    for (token, row) in rows.take(context).enumerate() {
        let row = &row[column..].as_chunks::<LANES>().0[..V];
        if let Some(block) = blocks.get(token / BLOCK + AHEAD) {
            let soon = block.as_ptr().wrapping_add((BLOCK + token % BLOCK) * dim + column);
            for part in (0..V).filter(|part| begins_line::<T>(part * LANES)) {
                _mm_prefetch::<_MM_HINT_T0>(soon.wrapping_add(part * LANES).cast());
            }
        }
        let values: [__m256; V] = std::array::from_fn(|part| load(&row[part]));
        for (sums, weights) in sums.iter_mut().zip(weights) {
            let weight = _mm256_set1_ps(weights[token]);
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum = _mm256_fmadd_ps(weight, value, *sum);
            }
        }
    }
    for (head, sums) in sums.into_iter().enumerate() {
        for (part, sum) in sums.into_iter().enumerate() {
            let place = out[head * dim + column + part * LANES..].first_chunk_mut();
            store(place.expect("columns within the head"), sum);
        }
    }
}

#[target_feature(enable = "avx2,f16c")]
fn load<T: Weight>(values: &[T; LANES]) -> __m256 {
    // SAFETY: the array is as long as the vector, and no alignment is asked for.
    unsafe { T::load_eight(values.as_ptr(), LANES) }
}

#[target_feature(enable = "avx2")]
fn store(place: &mut [f32; LANES], values: __m256) {
    // SAFETY: the array is as long as the vector, and no alignment is asked for.
    unsafe { _mm256_storeu_ps(place.as_mut_ptr(), values) }
}
