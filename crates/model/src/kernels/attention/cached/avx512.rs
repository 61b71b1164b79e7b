//! The same loops with sums held in 512-bit registers. Left to itself the compiler takes the sums of
//! several heads apart into scalars, which is eight times slower.

#![expect(unsafe_code, reason = "vector loads and stores take pointers")]

use std::arch::x86_64::{
    __m512, _MM_HINT_T0, _mm_prefetch, _mm512_fmadd_ps, _mm512_mul_ps, _mm512_set1_ps,
    _mm512_setzero_ps, _mm512_storeu_ps,
};

use super::grouped::{AHEAD, AT_ONCE, LINE, begins_line, in_groups};
use crate::{
    cache::BLOCK,
    kernels::{
        instructions::{Instructions, allowed},
        steady::Weight,
    },
};

/// Values of one vector; a block has as many tokens.
const LANES: usize = 16;
const _: () = assert!(BLOCK == LANES);

pub(super) fn is_supported() -> bool {
    allowed(Instructions::Avx512)
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
}

in_groups!();

/// Two blocks at a time, because the few sums of one would wait for each other.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn score_group<T: Weight, const G: usize>(
    queries: &[f32],
    blocks: &[&[T]],
    dim: usize,
    scores: &mut [f32],
) {
    let padded = blocks.len() * BLOCK;
    let queries: [&[f32]; G] = std::array::from_fn(|head| &queries[head * dim..(head + 1) * dim]);
    // After the last keys come the first values.
    let soon = |index: usize| match blocks.get(index + AHEAD) {
        Some(block) => block.as_ptr(),
        None => blocks[(index + AHEAD) % blocks.len()].as_ptr().wrapping_add(BLOCK * dim),
    };
    let mut place = |index: usize, sums: [__m512; G]| {
        for (head, sum) in sums.into_iter().enumerate() {
            let scores = scores[head * padded + index * BLOCK..].first_chunk_mut();
            store(scores.expect("a block of scores for each block"), sum);
        }
    };
    let (pairs, last) = blocks.as_chunks::<2>();
    for (pair, blocks) in pairs.iter().enumerate() {
        let index = 2 * pair;
        let [first, second] = score_blocks(queries, *blocks, [soon(index), soon(index + 1)], dim);
        place(index, first);
        place(index + 1, second);
    }
    if let [block] = last {
        let index = blocks.len() - 1;
        let [sums] = score_blocks(queries, [block], [soon(index)], dim);
        place(index, sums);
    }
}

/// The scores of some blocks' tokens, while the lines from each of `soon` on are called for.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn score_blocks<T: Weight, const G: usize, const B: usize>(
    queries: [&[f32]; G],
    blocks: [&[T]; B],
    soon: [*const T; B],
    dim: usize,
) -> [[__m512; G]; B] {
    let scale = _mm512_set1_ps(1.0 / (dim as f32).sqrt());
    let keys = blocks.map(|block| &block.as_chunks::<LANES>().0[..dim]);
    let queries = queries.map(|query| &query[..dim]);
    let mut sums = [[_mm512_setzero_ps(); G]; B];
    for component in 0..dim {
        if begins_line::<T>(component * LANES) {
            for soon in soon {
                _mm_prefetch::<_MM_HINT_T0>(soon.wrapping_add(component * LANES).cast());
            }
        }
        let keys = keys.map(|keys| load(&keys[component]));
        for (head, query) in queries.iter().enumerate() {
            let query = _mm512_set1_ps(query[component]);
            for (sums, key) in sums.iter_mut().zip(keys) {
                sums[head] = _mm512_fmadd_ps(query, key, sums[head]);
            }
        }
    }
    sums.map(|sums| sums.map(|sum| _mm512_mul_ps(sum, scale)))
}

/// 64 columns at a time, then the rest by 16: a value row is a cache line each.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn blend_group<T: Weight, const G: usize>(
    weights: &[f32],
    blocks: &[&[T]],
    (dim, context): (usize, usize),
    out: &mut [f32],
) {
    let mut column = 0;
    while column + 4 * LANES <= dim {
        blend_columns::<T, G, 4>(weights, blocks, (dim, context, column), out);
        column += 4 * LANES;
    }
    while column < dim {
        blend_columns::<T, G, 1>(weights, blocks, (dim, context, column), out);
        column += LANES;
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn blend_columns<T: Weight, const G: usize, const V: usize>(
    weights: &[f32],
    blocks: &[&[T]],
    (dim, context, column): (usize, usize, usize),
    out: &mut [f32],
) {
    let padded = blocks.len() * BLOCK;
    let weights: [&[f32]; G] =
        std::array::from_fn(|head| &weights[head * padded..(head + 1) * padded]);
    let mut sums = [[_mm512_setzero_ps(); V]; G];
    let rows = blocks.iter().flat_map(|block| block[BLOCK * dim..].chunks_exact(dim));
    for (token, row) in rows.take(context).enumerate() {
        let row = &row[column..].as_chunks::<LANES>().0[..V];
        if let Some(block) = blocks.get(token / BLOCK + AHEAD) {
            let soon = block.as_ptr().wrapping_add((BLOCK + token % BLOCK) * dim + column);
            for part in (0..V).filter(|part| begins_line::<T>(part * LANES)) {
                _mm_prefetch::<_MM_HINT_T0>(soon.wrapping_add(part * LANES).cast());
            }
        }
        let values: [__m512; V] = std::array::from_fn(|part| load(&row[part]));
        for (sums, weights) in sums.iter_mut().zip(weights) {
            let weight = _mm512_set1_ps(weights[token]);
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum = _mm512_fmadd_ps(weight, value, *sum);
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

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn load<T: Weight>(values: &[T; LANES]) -> __m512 {
    // SAFETY: the array is as long as the vector, and no alignment is asked for.
    unsafe { T::load(values.as_ptr(), u16::MAX) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn store(place: &mut [f32; LANES], values: __m512) {
    // SAFETY: the array is as long as the vector, and no alignment is asked for.
    unsafe { _mm512_storeu_ps(place.as_mut_ptr(), values) }
}
