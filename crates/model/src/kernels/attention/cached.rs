//! A sequence's newest rows over its cached blocks: a chunk of a prompt, or the one row of a decoding
//! step, which is limited by how fast blocks are read.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod grouped;
mod plain;

use std::ops::Range;

use super::super::steady::Weight;
use crate::{
    cache::{BLOCK, LayerBlocks},
    kernels::softmax::softmax,
    ops::HeadShape,
};

/// Rows of one task: with a few heads each, they read a block while it is in the nearest cache.
pub(super) const ROWS: usize = 8;

/// The newest rows of a sequence whose keys and values, theirs included, lie in blocks.
#[derive(Debug, Clone)]
pub(crate) struct Newest<'a> {
    /// Fused rows; queries come first in each.
    pub(crate) queries: &'a [f32],
    pub(crate) query_stride: usize,
    pub(crate) rows: usize,
    pub(crate) blocks: LayerBlocks<'a>,
    /// Tokens, the last row's own included.
    pub(crate) context: usize,
}

/// What a task finds: out `[rows, group, dim]` and log-sums `[rows, group]`.
#[derive(Debug)]
pub(super) struct Forward {
    pub(super) out: Vec<f32>,
    pub(super) lse: Vec<f32>,
}

/// Some of the newest rows, for the queries of one key/value head.
pub(super) fn forward(
    newest: &Newest<'_>,
    rows: Range<usize>,
    shape: HeadShape,
    kv_head: usize,
) -> Forward {
    let (dim, group) = (shape.dim, shape.heads / shape.kv_heads);
    let own = kv_head * group * dim..(kv_head + 1) * group * dim;
    let fused = newest.queries[rows.start * newest.query_stride..].chunks(newest.query_stride);
    let mut queries = Vec::with_capacity(rows.len() * own.len());
    for row in fused.take(rows.len()) {
        queries.extend_from_slice(&row[own.clone()]);
    }
    let before = newest.context - newest.rows;
    let seen = (before + rows.start, before + rows.end);
    match &newest.blocks {
        LayerBlocks::Plain(blocks) => over(&queries, blocks, (dim, group), kv_head, seen),
        LayerBlocks::Half(blocks) => over(&queries, blocks, (dim, group), kv_head, seen),
    }
}

/// The same of a group of queries from each row, the first of which sees one token more than `first`
/// and the last `context`.
fn over<T: Weight>(
    queries: &[f32],
    blocks: &[&[T]],
    (dim, group): (usize, usize),
    kv_head: usize,
    (first, context): (usize, usize),
) -> Forward {
    let head = 2 * BLOCK * dim;
    let own = kv_head * head..(kv_head + 1) * head;
    let blocks: Vec<&[T]> =
        blocks[..context.div_ceil(BLOCK)].iter().map(|block| &block[own.clone()]).collect();
    let padded = blocks.len() * BLOCK;
    let mut scores = vec![0.0; queries.len() / dim * padded];
    score(queries, &blocks, dim, &mut scores);
    let mut lse = Vec::with_capacity(queries.len() / dim);
    for (index, scores) in scores.chunks_exact_mut(padded).enumerate() {
        let (seen, later) = scores.split_at_mut(first + index / group + 1);
        lse.push(softmax(seen));
        // A weight of zero leaves a sum as it is, so that later rows' tokens can be read along.
        later.fill(0.0);
    }
    let mut out = vec![0.0; queries.len()];
    blend(&scores, &blocks, (dim, context), &mut out);
    Forward { out, lse }
}

/// scores[q, token] = q · k / √dim; beyond a row's context they mean nothing.
fn score<T: Weight>(queries: &[f32], blocks: &[&[T]], dim: usize, scores: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if avx512::score(queries, blocks, dim, scores) || avx2::score(queries, blocks, dim, scores) {
        return;
    }
    plain::score(queries, blocks, dim, scores);
}

/// out_q = Σ p[q, token] · v.
fn blend<T: Weight>(
    weights: &[f32],
    blocks: &[&[T]],
    (dim, context): (usize, usize),
    out: &mut [f32],
) {
    #[cfg(target_arch = "x86_64")]
    if avx512::blend(weights, blocks, (dim, context), out)
        || avx2::blend(weights, blocks, (dim, context), out)
    {
        return;
    }
    plain::blend(weights, blocks, (dim, context), out);
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use half::f16;

    use super::*;
    use crate::kernels::reference::{assert_near, noise};

    type Score<T> = fn(&[f32], &[&[T]], usize, &mut [f32]) -> bool;
    type Blend<T> = fn(&[f32], &[&[T]], (usize, usize), &mut [f32]) -> bool;

    #[test]
    fn all_loops_agree_with_the_plain_ones() {
        compare::<f32>();
        compare::<f16>();
    }

    fn compare<T: Weight>() {
        let wide: (bool, Score<T>, Blend<T>) =
            (avx512::is_supported(), avx512::score::<T>, avx512::blend::<T>);
        let narrow: (bool, Score<T>, Blend<T>) =
            (avx2::is_supported(), avx2::score::<T>, avx2::blend::<T>);
        for (_, fast_score, fast_blend) in [wide, narrow].into_iter().filter(|(runs, ..)| *runs) {
            for (group, dim, context) in
                [(1_usize, 16_usize, 1_usize), (3, 64, 33), (5, 128, 16), (7, 80, 47), (6, 64, 96)]
            {
                let count = context.div_ceil(BLOCK);
                let values: Vec<Vec<T>> = (0..count)
                    .map(|index| {
                        let mut block = vec![T::default(); 2 * BLOCK * dim];
                        assert!(T::round(&noise(2 * BLOCK * dim, index as u64), &mut block));
                        block
                    })
                    .collect();
                let blocks: Vec<&[T]> = values.iter().map(Vec::as_slice).collect();
                let queries = noise(group * dim, 9);
                let [mut plain, mut fast] = [(); 2].map(|()| vec![0.0; group * count * BLOCK]);
                plain::score(&queries, &blocks, dim, &mut plain);
                assert!(fast_score(&queries, &blocks, dim, &mut fast));
                assert_near(&fast, &plain, 1e-5);
                let weights = noise(group * count * BLOCK, 10);
                let [mut plain, mut fast] = [(); 2].map(|()| noise(group * dim, 11));
                plain::blend(&weights, &blocks, (dim, context), &mut plain);
                assert!(fast_blend(&weights, &blocks, (dim, context), &mut fast));
                assert_near(&fast, &plain, 1e-5);
            }
        }
    }
}
