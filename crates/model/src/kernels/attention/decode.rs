//! One query row over its cached blocks: the decoding step, limited by how fast they are read.

#[cfg(target_arch = "x86_64")]
mod avx512;
mod plain;

use crate::{cache::BLOCK, kernels::softmax::softmax, ops::HeadShape};

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
fn score(queries: &[f32], blocks: &[&[f32]], dim: usize, scores: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if avx512::score(queries, blocks, dim, scores) {
        return;
    }
    plain::score(queries, blocks, dim, scores);
}

/// out_g = Σ p[g, token] · v.
fn blend(weights: &[f32], blocks: &[&[f32]], (dim, context): (usize, usize), out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if avx512::blend(weights, blocks, (dim, context), out) {
        return;
    }
    plain::blend(weights, blocks, (dim, context), out);
}
