//! The loops in plain Rust: what every processor runs, and the reference of the faster ones.

use multiversion::multiversion;

use crate::{cache::BLOCK, kernels::steady::Weight};

#[multiversion(targets = "simd")]
pub(super) fn score<T: Weight>(queries: &[f32], blocks: &[&[T]], dim: usize, scores: &mut [f32]) {
    let scale = 1.0 / (dim as f32).sqrt();
    let padded = blocks.len() * BLOCK;
    for (query, scores) in queries.chunks_exact(dim).zip(scores.chunks_exact_mut(padded)) {
        for (block, scores) in blocks.iter().zip(scores.chunks_exact_mut(BLOCK)) {
            let mut sums = [0.0_f32; BLOCK];
            for (q, key) in query.iter().zip(block[..BLOCK * dim].as_chunks::<BLOCK>().0) {
                for (sum, key) in sums.iter_mut().zip(key) {
                    *sum += q * key.wide();
                }
            }
            for (score, sum) in scores.iter_mut().zip(sums) {
                *score = sum * scale;
            }
        }
    }
}

#[multiversion(targets = "simd")]
pub(super) fn blend<T: Weight>(
    weights: &[f32],
    blocks: &[&[T]],
    (dim, context): (usize, usize),
    out: &mut [f32],
) {
    let padded = blocks.len() * BLOCK;
    for (weights, out) in weights.chunks_exact(padded).zip(out.chunks_exact_mut(dim)) {
        out.fill(0.0);
        let rows = blocks.iter().flat_map(|block| block[BLOCK * dim..].chunks_exact(dim));
        for (weight, row) in weights.iter().zip(rows).take(context) {
            for (out, value) in out.iter_mut().zip(row) {
                *out += weight * value.wide();
            }
        }
    }
}
