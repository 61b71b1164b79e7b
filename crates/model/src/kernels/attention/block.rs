//! One head of one sequence, a block of queries at a time.

use super::{Given, Sequence};
use crate::{
    kernels::{
        gemm::{Into, Threads, View, ViewMut, gemm},
        softmax::{probabilities, softmax},
    },
    ops::HeadShape,
};

/// Queries per block: enough rows for a good product, few enough that their scores stay in cache.
const BLOCK: usize = 64;

pub(super) struct Forward {
    /// `[rows, dim]`.
    pub(super) out: Vec<f32>,
    /// `[rows]`.
    pub(super) lse: Vec<f32>,
}

/// Gradients with respect to one head's queries `[rows, dim]`, and keys and values
/// `[past + rows, dim]`.
pub(super) struct Backward {
    pub(super) queries: Vec<f32>,
    pub(super) keys: Vec<f32>,
    pub(super) values: Vec<f32>,
}

/// One head's columns of a sequence's rows.
struct Head<'a> {
    queries: &'a [f32],
    query_stride: usize,
    keys: &'a [f32],
    values: &'a [f32],
    key_stride: usize,
    dim: usize,
    scale: f32,
}

impl<'a> Head<'a> {
    fn of(sequence: &Sequence<'a>, shape: HeadShape, head: usize) -> Self {
        let shared = head / (shape.heads / shape.kv_heads) * shape.dim;
        Self {
            queries: &sequence.queries[head * shape.dim..],
            query_stride: sequence.query_stride,
            keys: &sequence.keys[shared..],
            values: &sequence.values[shared..],
            key_stride: sequence.key_stride,
            dim: shape.dim,
            scale: 1.0 / (shape.dim as f32).sqrt(),
        }
    }

    fn queries(&self, first: usize, rows: usize) -> View<'a> {
        View::new(&self.queries[first * self.query_stride..], rows, self.dim, self.query_stride)
    }

    fn keys(&self, rows: usize) -> View<'a> {
        View::new(self.keys, rows, self.dim, self.key_stride)
    }

    fn values(&self, rows: usize) -> View<'a> {
        View::new(self.values, rows, self.dim, self.key_stride)
    }
}

/// (first query, queries) of every block.
fn blocks(rows: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..rows).step_by(BLOCK).map(move |first| (first, BLOCK.min(rows - first)))
}

pub(super) fn forward(sequence: &Sequence<'_>, shape: HeadShape, head: usize) -> Forward {
    let head = Head::of(sequence, shape, head);
    let (rows, dim, past) = (sequence.rows, shape.dim, sequence.past);
    let mut out = vec![0.0; rows * dim];
    let mut lse = vec![0.0; rows];
    let mut scores = vec![0.0; BLOCK.min(rows) * (past + rows)];
    for (first, count) in blocks(rows) {
        let context = past + first + count;
        let scores = &mut scores[..count * context];
        let place = ViewMut::whole(scores, count, context);
        let (q, k) = (head.queries(first, count), head.keys(context));
        gemm(place, q, k.t(), head.scale, Into::Replace, Threads::One);
        for (row, scores) in scores.chunks_exact_mut(context).enumerate() {
            let (visible, hidden) = scores.split_at_mut(past + first + row + 1);
            lse[first + row] = softmax(visible);
            hidden.fill(0.0);
        }
        let place = ViewMut::whole(&mut out[first * dim..(first + count) * dim], count, dim);
        let p = View::whole(scores, count, context);
        gemm(place, p, head.values(context), 1.0, Into::Replace, Threads::One);
    }
    Forward { out, lse }
}

pub(super) fn backward(given: &Given<'_>, shape: HeadShape, index: usize) -> Backward {
    let head = Head::of(&given.sequence, shape, index);
    let Sequence { rows, past, .. } = given.sequence;
    let (dim, width) = (shape.dim, shape.q_dim());
    let mut d_q = vec![0.0; rows * dim];
    let [mut d_k, mut d_v] = [(); 2].map(|()| vec![0.0; (past + rows) * dim]);
    let [mut p, mut d_s] = [(); 2].map(|()| vec![0.0; BLOCK.min(rows) * (past + rows)]);
    for (first, count) in blocks(rows) {
        let context = past + first + count;
        let (p, d_s) = (&mut p[..count * context], &mut d_s[..count * context]);
        let (q, k, v) = (head.queries(first, count), head.keys(context), head.values(context));
        let d_out = View::new(&given.d_out[first * width + index * dim..], count, dim, width);

        gemm(ViewMut::whole(p, count, context), q, k.t(), head.scale, Into::Replace, Threads::One);
        gemm(ViewMut::whole(d_s, count, context), d_out, v.t(), 1.0, Into::Replace, Threads::One);
        let scores = p.chunks_exact_mut(context).zip(d_s.chunks_exact_mut(context));
        for (row, (p, d_s)) in scores.enumerate() {
            let at = (first + row) * width + index * dim;
            let (out, d_out) = (&given.out[at..at + dim], &given.d_out[at..at + dim]);
            let inner: f32 = out.iter().zip(d_out).map(|(out, d_out)| out * d_out).sum();
            let visible = past + first + row + 1;
            probabilities(&mut p[..visible], given.lse[(first + row) * shape.heads + index]);
            p[visible..].fill(0.0);
            // dS = P · (dP − Σ P · dP), and Σ P · dP is the product of output and its gradient.
            for (d_s, p) in d_s.iter_mut().zip(p.iter()) {
                *d_s = p * (*d_s - inner);
            }
        }
        let (p, d_s) = (View::whole(p, count, context), View::whole(d_s, count, context));
        let place = ViewMut::whole(&mut d_q[first * dim..(first + count) * dim], count, dim);
        gemm(place, d_s, k, head.scale, Into::Replace, Threads::One);
        let place = ViewMut::whole(&mut d_k[..context * dim], context, dim);
        gemm(place, d_s.t(), q, head.scale, Into::Add, Threads::One);
        let place = ViewMut::whole(&mut d_v[..context * dim], context, dim);
        gemm(place, p.t(), d_out, 1.0, Into::Add, Threads::One);
    }
    Backward { queries: d_q, keys: d_k, values: d_v }
}
