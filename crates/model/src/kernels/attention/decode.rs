//! One query row over its cached blocks: the decoding step, limited by how fast they are read.

use multiversion::multiversion;

use crate::{
    cache::BLOCK,
    kernels::{simd::LANES, softmax::softmax},
    ops::HeadShape,
};

/// Queries that share keys and are scored together, so that each key is loaded once for them.
const AT_ONCE: usize = 4;

/// The newest row of a sequence whose keys and values, its own included, lie in blocks.
#[derive(Debug, Clone)]
pub(crate) struct Row<'a> {
    /// `[q_dim]`.
    pub(crate) query: &'a [f32],
    /// One layer's part of every block, `[kv_heads, 2 · BLOCK · dim]`.
    pub(crate) blocks: Vec<&'a [f32]>,
    /// Tokens, the row's own included.
    pub(crate) context: usize,
}

/// One key/value head of one row: `out` is `[group, dim]`, `lse` is `[group]`.
pub(super) fn forward(
    row: &Row<'_>,
    shape: HeadShape,
    kv_head: usize,
    out: &mut [f32],
    lse: &mut [f32],
) {
    let (dim, group) = (shape.dim, shape.heads / shape.kv_heads);
    let head = 2 * BLOCK * dim;
    let blocks: Vec<&[f32]> =
        row.blocks.iter().map(|block| &block[kv_head * head..(kv_head + 1) * head]).collect();
    let queries = &row.query[kv_head * group * dim..(kv_head + 1) * group * dim];
    let padded = blocks.len() * BLOCK;
    let mut scores = vec![0.0; group * padded];
    score(queries, &blocks, dim, &mut scores);
    for (scores, lse) in scores.chunks_exact_mut(padded).zip(lse) {
        *lse = softmax(&mut scores[..row.context]);
    }
    blend(&scores, &blocks, (dim, row.context), out);
}

/// scores[g, token] = q_g · k / √dim; beyond the context they mean nothing.
#[multiversion(targets = "simd")]
fn score(queries: &[f32], blocks: &[&[f32]], dim: usize, scores: &mut [f32]) {
    let padded = blocks.len() * BLOCK;
    let groups = queries.chunks(AT_ONCE * dim).zip(scores.chunks_mut(AT_ONCE * padded));
    for (queries, scores) in groups {
        match queries.len() / dim {
            1 => score_group::<1>(queries, blocks, dim, scores),
            2 => score_group::<2>(queries, blocks, dim, scores),
            3 => score_group::<3>(queries, blocks, dim, scores),
            _ => score_group::<AT_ONCE>(queries, blocks, dim, scores),
        }
    }
}

#[expect(clippy::inline_always, reason = "inlined into a multiversioned loop it is vector code")]
#[inline(always)]
fn score_group<const G: usize>(queries: &[f32], blocks: &[&[f32]], dim: usize, out: &mut [f32]) {
    let scale = 1.0 / (dim as f32).sqrt();
    let padded = blocks.len() * BLOCK;
    for (index, block) in blocks.iter().enumerate() {
        let mut sums = [[0.0_f32; BLOCK]; G];
        let keys = block[..BLOCK * dim].as_chunks::<BLOCK>().0;
        for (component, key) in keys.iter().enumerate() {
            for (head, sums) in sums.iter_mut().enumerate() {
                let q = queries[head * dim + component];
                for (sum, key) in sums.iter_mut().zip(key) {
                    *sum += q * key;
                }
            }
        }
        for (sums, out) in sums.iter().zip(out.chunks_exact_mut(padded)) {
            for (out, sum) in out[index * BLOCK..][..BLOCK].iter_mut().zip(sums) {
                *out = sum * scale;
            }
        }
    }
}

/// out_g = Σ p[g, token] · v.
#[multiversion(targets = "simd")]
fn blend(weights: &[f32], blocks: &[&[f32]], (dim, context): (usize, usize), out: &mut [f32]) {
    let padded = blocks.len() * BLOCK;
    let groups = weights.chunks(AT_ONCE * padded).zip(out.chunks_mut(AT_ONCE * dim));
    for (weights, out) in groups {
        let whole = dim / LANES * LANES;
        for column in (0..whole).step_by(LANES) {
            match out.len() / dim {
                1 => blend_group::<1>(weights, blocks, (dim, context, column), out),
                2 => blend_group::<2>(weights, blocks, (dim, context, column), out),
                3 => blend_group::<3>(weights, blocks, (dim, context, column), out),
                _ => blend_group::<AT_ONCE>(weights, blocks, (dim, context, column), out),
            }
        }
        for (weights, out) in weights.chunks_exact(padded).zip(out.chunks_exact_mut(dim)) {
            for (column, out) in out.iter_mut().enumerate().skip(whole) {
                let value =
                    |token: usize| blocks[token / BLOCK][(BLOCK + token % BLOCK) * dim + column];
                *out = (0..context).map(|token| weights[token] * value(token)).sum();
            }
        }
    }
}

/// Some columns of the group's outputs, kept in registers over all tokens.
#[expect(clippy::inline_always, reason = "inlined into a multiversioned loop it is vector code")]
#[inline(always)]
fn blend_group<const G: usize>(
    weights: &[f32],
    blocks: &[&[f32]],
    (dim, context, column): (usize, usize, usize),
    out: &mut [f32],
) {
    let padded = blocks.len() * BLOCK;
    let mut sums = [[0.0_f32; LANES]; G];
    for (index, block) in blocks.iter().enumerate() {
        let tokens = BLOCK.min(context - index * BLOCK);
        let rows = block[BLOCK * dim..].chunks_exact(dim).take(tokens);
        for (lane, row) in rows.enumerate() {
            let value = &row[column..column + LANES];
            for (head, sums) in sums.iter_mut().enumerate() {
                let weight = weights[head * padded + index * BLOCK + lane];
                for (sum, value) in sums.iter_mut().zip(value) {
                    *sum += weight * value;
                }
            }
        }
    }
    for (sums, out) in sums.iter().zip(out.chunks_exact_mut(dim)) {
        out[column..column + LANES].copy_from_slice(sums);
    }
}
