//! Causal grouped-query attention over ragged sequences, forward and backward.
//!
//! Scores exist for one block of queries of one head at a time. The backward pass recomputes them
//! from the kept log-sums instead of keeping them.

mod block;
mod cached;

use understudy_team as team;

pub(crate) use cached::Newest;

use crate::ops::HeadShape;

/// One sequence's part of a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sequence<'a> {
    /// Its fused rows `[rows, stride]`; queries come first in each.
    pub(crate) queries: &'a [f32],
    pub(crate) query_stride: usize,
    pub(crate) rows: usize,
    /// Keys and values from the sequence's first token on, `past + rows` of them.
    pub(crate) keys: &'a [f32],
    pub(crate) values: &'a [f32],
    pub(crate) key_stride: usize,
    pub(crate) past: usize,
}

/// Attention of every sequence, written to rows of `out` `[rows, q_dim]` in order, and log Σ exp of
/// the scores to `lse` `[rows, heads]`.
pub(crate) fn attention(
    sequences: &[Sequence<'_>],
    shape: HeadShape,
    out: &mut [f32],
    lse: &mut [f32],
) {
    let tasks: Vec<(&Sequence<'_>, usize)> = sequences
        .iter()
        .flat_map(|sequence| (0..shape.heads).map(move |head| (sequence, head)))
        .collect();
    let results: Vec<block::Forward> =
        team::map_items(tasks, |(sequence, head)| block::forward(sequence, shape, head));
    let mut row = 0;
    for (sequence, heads) in sequences.iter().zip(results.chunks_exact(shape.heads)) {
        let out = &mut out[row * shape.q_dim()..(row + sequence.rows) * shape.q_dim()];
        let lse = &mut lse[row * shape.heads..(row + sequence.rows) * shape.heads];
        for (head, result) in heads.iter().enumerate() {
            scatter(&result.out, shape.dim, out, shape.q_dim(), head * shape.dim);
            scatter(&result.lse, 1, lse, shape.heads, head);
        }
        row += sequence.rows;
    }
}

/// The same for sequences whose keys and values lie in blocks. What a row gets does not depend on
/// how many rows came with it.
pub(crate) fn attention_over_blocks(
    sequences: &[Newest<'_>],
    shape: HeadShape,
    out: &mut [f32],
    lse: &mut [f32],
) {
    let (group, q) = (shape.heads / shape.kv_heads, shape.q_dim());
    let mut tasks = Vec::new();
    let mut before = 0;
    for sequence in sequences {
        for first in (0..sequence.rows).step_by(cached::ROWS) {
            let rows = first..(first + cached::ROWS).min(sequence.rows);
            let heads = (0..shape.kv_heads).map(|head| (sequence, before, rows.clone(), head));
            tasks.extend(heads);
        }
        before += sequence.rows;
    }
    let results: Vec<cached::Forward> = team::map(tasks.len(), |task| {
        let (sequence, _, rows, head) = &tasks[task];
        cached::forward(sequence, rows.clone(), shape, *head)
    });
    for ((_, before, rows, head), result) in tasks.into_iter().zip(results) {
        let (first, end) = (before + rows.start, before + rows.end);
        let (wide, narrow) = (group * shape.dim, head * group);
        scatter(&result.out, wide, &mut out[first * q..end * q], q, head * wide);
        let lse = &mut lse[first * shape.heads..end * shape.heads];
        scatter(&result.lse, group, lse, shape.heads, narrow);
    }
}

/// What the backward pass of [`attention`] reads, for one sequence.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Given<'a> {
    pub(crate) sequence: Sequence<'a>,
    pub(crate) out: &'a [f32],
    pub(crate) lse: &'a [f32],
    pub(crate) d_out: &'a [f32],
}

/// Gradients with respect to the fused rows, `[rows, q_dim + 2 · kv_dim]` in the order of `given`.
/// What reaches the past of a sequence is returned, one `[past, 2 · kv_dim]` for each.
pub(crate) fn attention_backward(
    given: &[Given<'_>],
    shape: HeadShape,
    d_qkv: &mut [f32],
) -> Vec<Vec<f32>> {
    let (q, kv, dim) = (shape.q_dim(), shape.kv_dim(), shape.dim);
    let width = q + 2 * kv;
    let tasks: Vec<(usize, usize)> = (0..given.len())
        .flat_map(|index| (0..shape.heads).map(move |head| (index, head)))
        .collect();
    let results: Vec<block::Backward> =
        team::map_items(tasks, |(index, head)| block::backward(&given[index], shape, head));
    let sequences: Vec<Sequence<'_>> = given.iter().map(|given| given.sequence).collect();
    let parts = split(&sequences, width, d_qkv);
    let group = shape.heads / shape.kv_heads;
    let given = given.iter().zip(results.chunks_exact(shape.heads));
    team::map_items(parts.into_iter().zip(given).collect(), |(rows, (given, results))| {
        let before = given.sequence.past * dim;
        let mut past = vec![0.0; given.sequence.past * 2 * kv];
        for (head, result) in results.iter().enumerate() {
            scatter(&result.queries, dim, rows, width, head * dim);
            // Every query head of a group adds to the gradient of the keys they share.
            let shared = head / group * dim;
            let place = if head % group == 0 { scatter } else { scatter_add };
            place(&result.keys[before..], dim, rows, width, q + shared);
            place(&result.values[before..], dim, rows, width, q + kv + shared);
            scatter_add(&result.keys[..before], dim, &mut past, 2 * kv, shared);
            scatter_add(&result.values[..before], dim, &mut past, 2 * kv, kv + shared);
        }
        past
    })
}

/// Cuts rows of all sequences into one slice per sequence.
fn split<'a>(sequences: &[Sequence<'_>], width: usize, rows: &'a mut [f32]) -> Vec<&'a mut [f32]> {
    let mut rest = rows;
    let cut = sequences.iter().map(|sequence| {
        let (part, tail) = std::mem::take(&mut rest).split_at_mut(sequence.rows * width);
        rest = tail;
        part
    });
    cut.collect()
}

/// Copies narrow rows into columns `column..` of wide rows.
fn scatter(from: &[f32], narrow: usize, to: &mut [f32], wide: usize, column: usize) {
    for (from, to) in from.chunks_exact(narrow).zip(to.chunks_exact_mut(wide)) {
        to[column..column + narrow].copy_from_slice(from);
    }
}

fn scatter_add(from: &[f32], narrow: usize, to: &mut [f32], wide: usize, column: usize) {
    for (from, to) in from.chunks_exact(narrow).zip(to.chunks_exact_mut(wide)) {
        for (to, from) in to[column..column + narrow].iter_mut().zip(from) {
            *to += from;
        }
    }
}

#[cfg(test)]
mod tests;
