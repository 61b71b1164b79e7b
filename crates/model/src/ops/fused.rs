//! The operations as kernels over values in main memory.

mod adapters;

use std::borrow::Cow;

use candle_core::Tensor;
use understudy_team as team;

pub(super) use adapters::{
    FUSED_FROM, adapt, add_lora_input, apply_adapted, apply_transposed_adapted, lora_grads,
    lora_grads_narrow,
};

use super::{Attended, Cached, HeadShape, Rotation};
use crate::{
    batch::{Batch, Span},
    cache::KvCache,
    error::{Result, refuse},
    host::{Host, change, give, scratch, tensor},
    kernels::{
        attention::{self, Given, Newest, Sequence},
        bf16,
        gemm::{Into, Threads, View, ViewMut, gemm},
        int8, norm, panels,
        rope::{self, Turn},
        steady, swiglu,
    },
    linear::{Head, HeadLayout, Layout, Linear},
};

pub(super) fn apply(x: &Tensor, w: &Linear) -> Result<Tensor> {
    let rows = x.dim(0)?;
    let mut out = scratch(rows * w.outputs);
    product(&Host::of(x)?, w, rows, &mut out, Into::Replace)?;
    tensor(out, (rows, w.outputs))
}

pub(super) fn add_apply(y: Tensor, x: &Tensor, w: &Linear) -> Result<Tensor> {
    let (x_values, rows) = (Host::of(x)?, x.dim(0)?);
    let mut done = Ok(());
    change(&y, |y| done = product(&x_values, w, rows, y, Into::Add))?;
    done.map(|()| y)
}

pub(super) fn apply_transposed(dy: &Tensor, w: &Linear) -> Result<Tensor> {
    let (rows, dy) = (dy.dim(0)?, Host::of(dy)?);
    let mut out = scratch(rows * w.inputs);
    if let Some(turned) = w.backward() {
        bf16::product(&mut out, &dy, &turned, rows, Into::Replace);
    } else {
        // Turning the weights is a hundredth of the product, and lets it read them in order.
        let turned = panels::transpose(&in_panels(w)?, w.inputs, w.outputs);
        steady::times_panels(&mut out, &dy, &turned, rows, Into::Replace);
    }
    tensor(out, (rows, w.inputs))
}

/// out (+)= x · w.
fn product(x: &[f32], w: &Linear, rows: usize, out: &mut [f32], into: Into) -> Result<()> {
    match (&w.weights, w.forward()) {
        (_, Some(packed)) => bf16::product(out, x, &packed, rows, into),
        (Layout::Blocks(packed), None) => int8::product(out, x, packed, rows, into),
        (_, None) => steady::times_panels(out, x, &in_panels(w)?, rows, into),
    }
    Ok(())
}

/// The weights in f32 panels, widened if they are held in fewer bits.
fn in_panels(w: &Linear) -> Result<Cow<'_, [f32]>> {
    match &w.weights {
        Layout::Panels(panels) => Ok(Cow::Borrowed(panels)),
        Layout::Quantised(quantised) => {
            Ok(Cow::Owned(panels::pack(&quantised.plain(), w.inputs, w.outputs)))
        }
        Layout::Blocks(packed) => {
            Ok(Cow::Owned(panels::pack(&packed.plain(), w.inputs, w.outputs)))
        }
        Layout::Pairs(_) | Layout::Plain(_) => Err(refuse!(
            Device,
            "a kernel needs weights in panels; these are laid out for another device"
        )),
    }
}

pub(super) fn copy(x: &Tensor) -> Result<Tensor> {
    let mut out = scratch(x.elem_count());
    out.copy_from_slice(&Host::of(x)?);
    tensor(out, x.dims2()?)
}

pub(super) fn logits(hidden: &Tensor, head: &Head, out: &mut Vec<f32>) -> Result<()> {
    let rows = hidden.dim(0)?;
    out.resize(rows * head.vocab, 0.0);
    let x = Host::of(hidden)?;
    match &head.weights {
        HeadLayout::Pairs(pairs) => {
            bf16::product(out, &x, pairs.forward(), rows, Into::Replace);
        }
        HeadLayout::Blocks(packed) => int8::product(out, &x, packed, rows, Into::Replace),
        HeadLayout::Rows(w) => steady::times_transposed(&x, &Host::of(w)?, rows, out),
    }
    Ok(())
}

pub(super) fn logits_backward(d_logits: &[f32], head: &Head) -> Result<Tensor> {
    let (vocab, width) = (head.vocab, head.hidden);
    let rows = d_logits.len() / vocab;
    let mut out = scratch(rows * width);
    match &head.weights {
        HeadLayout::Pairs(pairs) => {
            bf16::product(&mut out, d_logits, pairs.backward(), rows, Into::Replace);
        }
        HeadLayout::Blocks(packed) => {
            let turned = panels::pack(&transposed(&packed.plain(), width), vocab, width);
            steady::times_panels(&mut out, d_logits, &turned, rows, Into::Replace);
        }
        HeadLayout::Rows(w) => {
            let w = Host::of(w)?;
            let (d_logits, w) = (View::whole(d_logits, rows, vocab), View::whole(&w, vocab, width));
            let place = ViewMut::whole(&mut out, rows, width);
            gemm(place, d_logits, w, 1.0, Into::Replace, Threads::All);
        }
    }
    tensor(out, (rows, width))
}

/// The transpose of row-major values `[rows, width]`.
fn transposed(values: &[f32], rows: usize) -> Vec<f32> {
    let width = values.len() / rows;
    (0..values.len()).map(|at| values[at % rows * width + at / rows]).collect()
}

pub(super) fn rms_norm(x: &Tensor, w: &Tensor, eps: f32) -> Result<Tensor> {
    let shape = x.dims2()?;
    let mut out = scratch(shape.0 * shape.1);
    norm::rms_norm(&Host::of(x)?, &Host::of(w)?, eps, &mut out);
    tensor(out, shape)
}

pub(super) fn rms_norm_backward(
    x: &Tensor,
    w: &Tensor,
    eps: f32,
    dy: &Tensor,
    onto: Option<Tensor>,
) -> Result<Tensor> {
    let shape = x.dims2()?;
    let onto = match onto {
        Some(onto) => onto,
        None => tensor(vec![0.0; shape.0 * shape.1], shape)?,
    };
    let (x, w, dy) = (Host::of(x)?, Host::of(w)?, Host::of(dy)?);
    change(&onto, |onto| norm::rms_norm_backward(&x, &w, eps, &dy, onto))?;
    Ok(onto)
}

pub(super) fn rotate(qkv: Tensor, shape: HeadShape, by: &Rotation) -> Result<Tensor> {
    turn(qkv, shape, by, Turn::Forward)
}

pub(super) fn rotate_back(qkv: Tensor, shape: HeadShape, by: &Rotation) -> Result<Tensor> {
    turn(qkv, shape, by, Turn::Back)
}

fn turn(qkv: Tensor, shape: HeadShape, by: &Rotation, turn: Turn) -> Result<Tensor> {
    let heads = (qkv.dim(1)?, shape.heads + shape.kv_heads, shape.dim);
    let (cos, sin) = (Host::of(&by.cos)?, Host::of(&by.sin)?);
    change(&qkv, |rows| rope::rotate(rows, heads, &cos, &sin, turn))?;
    Ok(qkv)
}

pub(super) fn store(
    qkv: &Tensor,
    spans: &[Span],
    shape: HeadShape,
    (caches, layer): (&mut [&mut KvCache], usize),
) -> Result<()> {
    let (q, kv, width) = (shape.q_dim(), shape.kv_dim(), qkv.dim(1)?);
    let qkv = Host::of(qkv)?;
    for (span, cache) in spans.iter().zip(caches) {
        let rows = &qkv[span.start * width..(span.start + span.len) * width];
        let blocks = cache.blocks_mut()?;
        for (index, row) in rows.chunks_exact(width).enumerate() {
            let (keys, values) = row[q..].split_at(kv);
            blocks.write(layer, span.past + index, keys, values);
        }
    }
    Ok(())
}

pub(super) fn attention(
    qkv: &Tensor,
    spans: &[Span],
    shape: HeadShape,
    cached: Option<Cached<'_, '_>>,
) -> Result<Attended> {
    let (rows, width) = qkv.dims2()?;
    let values = Host::of(qkv)?;
    let mut out = scratch(rows * shape.q_dim());
    let mut lse = vec![0.0; rows * shape.heads];
    if let Some(cached) = cached {
        let newest = newest(&values, width, spans, cached)?;
        attention::attention_over_blocks(&newest, shape, &mut out, &mut lse);
    } else {
        let trunks = trunks(&values, width, spans, shape);
        let sequences = within(&values, width, (spans, &trunks), shape);
        attention::attention(&sequences, shape, &mut out, &mut lse);
        trunks.into_iter().for_each(give);
    }
    let lse = tensor(lse, (rows, shape.heads))?;
    Ok(Attended { out: tensor(out, (rows, shape.q_dim()))?, lse: Some(lse) })
}

/// Every span's rows with the blocks they read.
fn newest<'a>(
    qkv: &'a [f32],
    width: usize,
    spans: &[Span],
    (caches, layer): (&'a [&mut KvCache], usize),
) -> Result<Vec<Newest<'a>>> {
    let newest = |(span, cache): (&Span, &'a &mut KvCache)| {
        let queries = &qkv[span.start * width..(span.start + span.len) * width];
        let blocks = cache.blocks()?.layer(layer);
        let context = span.past + span.len;
        Ok(Newest { queries, query_stride: width, rows: span.len, blocks, context })
    };
    spans.iter().zip(caches).map(newest).collect()
}

/// Keys and values `[past + rows, 2 · kv_dim]` of every span that branches from another; nothing
/// for the others. Copying them is a thousandth of what a layer costs, and lets the kernels read
/// every sequence as if it stood alone.
fn trunks(qkv: &[f32], width: usize, spans: &[Span], shape: HeadShape) -> Vec<Vec<f32>> {
    let gather = |index: usize| -> Vec<f32> {
        let mut rows = Batch::trunk(spans, index);
        if rows.is_empty() {
            return Vec::new();
        }
        rows.push(spans[index].rows());
        let count: usize = rows.iter().map(ExactSizeIterator::len).sum();
        let mut gathered = Vec::with_capacity(count * 2 * shape.kv_dim());
        for row in rows.into_iter().flatten() {
            gathered.extend_from_slice(&qkv[row * width + shape.q_dim()..(row + 1) * width]);
        }
        gathered
    };
    if spans.iter().all(|span| span.after.is_none()) {
        return vec![Vec::new(); spans.len()];
    }
    team::map(spans.len(), gather)
}

/// Sequences whose keys and values lie in their own fused rows, or were gathered from a trunk.
fn within<'a>(
    qkv: &'a [f32],
    width: usize,
    (spans, trunks): (&[Span], &'a [Vec<f32>]),
    shape: HeadShape,
) -> Vec<Sequence<'a>> {
    let sequence = |(span, trunk): (&Span, &'a Vec<f32>)| {
        let rows = &qkv[span.start * width..(span.start + span.len) * width];
        let (fused, key_stride) = if trunk.is_empty() {
            (&rows[shape.q_dim()..], width)
        } else {
            (&trunk[..], 2 * shape.kv_dim())
        };
        Sequence {
            queries: rows,
            query_stride: width,
            rows: span.len,
            keys: fused,
            values: &fused[shape.kv_dim()..],
            key_stride,
            past: span.past,
        }
    };
    spans.iter().zip(trunks).map(sequence).collect()
}

pub(super) fn attention_backward(
    qkv: &Tensor,
    (out, lse): (&Tensor, &Tensor),
    d_out: &Tensor,
    spans: &[Span],
    shape: HeadShape,
) -> Result<Tensor> {
    let (rows, width) = qkv.dims2()?;
    let (qkv, out, lse, d_out) = (Host::of(qkv)?, Host::of(out)?, Host::of(lse)?, Host::of(d_out)?);
    let (q, kv) = (shape.q_dim(), shape.kv_dim());
    let trunks = trunks(&qkv, width, spans, shape);
    let given: Vec<Given<'_>> = within(&qkv, width, (spans, &trunks), shape)
        .into_iter()
        .zip(spans)
        .map(|(sequence, span)| {
            let (first, end) = (span.start, span.start + span.len);
            Given {
                sequence,
                out: &out[first * q..end * q],
                lse: &lse[first * shape.heads..end * shape.heads],
                d_out: &d_out[first * q..end * q],
            }
        })
        .collect();
    let mut d_qkv = scratch(rows * width);
    let pasts = attention::attention_backward(&given, shape, &mut d_qkv);
    for (index, past) in pasts.iter().enumerate() {
        // Every branch adds to the gradient of the trunk it read.
        let rows = Batch::trunk(spans, index).into_iter().flatten();
        for (row, past) in rows.zip(past.chunks_exact(2 * kv)) {
            let place = &mut d_qkv[row * width + q..(row + 1) * width];
            place.iter_mut().zip(past).for_each(|(place, value)| *place += value);
        }
    }
    tensor(d_qkv, (rows, width))
}

pub(super) fn swiglu(gate_up: &Tensor) -> Result<Tensor> {
    let (rows, width) = (gate_up.dim(0)?, gate_up.dim(1)? / 2);
    let mut out = scratch(rows * width);
    swiglu::swiglu(&Host::of(gate_up)?, width, &mut out);
    tensor(out, (rows, width))
}

pub(super) fn swiglu_backward(gate_up: Tensor, d_act: &Tensor) -> Result<Tensor> {
    let (width, d_act) = (d_act.dim(1)?, Host::of(d_act)?);
    change(&gate_up, |gate_up| swiglu::swiglu_backward(gate_up, width, &d_act))?;
    Ok(gate_up)
}
