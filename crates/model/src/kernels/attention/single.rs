//! One query row over its cache: the decoding step, limited by how fast the cache is read.

use multiversion::multiversion;

use super::Sequence;
use crate::{
    kernels::{
        simd::{axpy, dot},
        softmax::softmax,
    },
    ops::HeadShape,
};

/// All heads of one row: `out` is `[q_dim]`, `lse` is `[heads]`.
pub(super) fn forward(sequence: &Sequence<'_>, shape: HeadShape, out: &mut [f32], lse: &mut [f32]) {
    let group = shape.heads / shape.kv_heads;
    let context = sequence.past + 1;
    let mut scores = vec![0.0; group * context];
    let queries = sequence.queries[..shape.q_dim()].chunks_exact(group * shape.dim);
    let outs = out.chunks_exact_mut(group * shape.dim).zip(lse.chunks_exact_mut(group));
    for (index, (queries, (out, lse))) in queries.zip(outs).enumerate() {
        let shared = index * shape.dim;
        let (dim, stride) = (shape.dim, sequence.key_stride);
        score(queries, &sequence.keys[shared..], (context, dim, stride), &mut scores);
        for (scores, lse) in scores.chunks_exact_mut(context).zip(lse) {
            *lse = softmax(scores);
        }
        out.fill(0.0);
        blend(&scores, &sequence.values[shared..], (context, dim, stride), out);
    }
}

/// scores[g, key] = q_g · k / √dim, reading every key once for all queries that share it.
#[multiversion(targets = "simd")]
fn score(
    queries: &[f32],
    keys: &[f32],
    (context, dim, stride): (usize, usize, usize),
    scores: &mut [f32],
) {
    let scale = 1.0 / (dim as f32).sqrt();
    for (index, row) in keys.chunks(stride).take(context).enumerate() {
        for (head, query) in queries.chunks_exact(dim).enumerate() {
            scores[head * context + index] = scale * dot(query, &row[..dim]);
        }
    }
}

/// out_g += Σ p[g, key] · v.
#[multiversion(targets = "simd")]
fn blend(
    weights: &[f32],
    values: &[f32],
    (context, dim, stride): (usize, usize, usize),
    out: &mut [f32],
) {
    for (index, row) in values.chunks(stride).take(context).enumerate() {
        for (head, out) in out.chunks_exact_mut(dim).enumerate() {
            axpy(out, weights[head * context + index], &row[..dim]);
        }
    }
}
