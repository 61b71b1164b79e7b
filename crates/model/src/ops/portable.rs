//! The operations as compositions of candle tensor operations, for any device.

use candle_core::{D, Tensor};

use super::{Adapting, Attended, Cached, HeadShape};
use crate::{
    batch::{Batch, Span},
    cache::KvCache,
    error::Result,
    lora::{Lora, LoraGrads, Slot},
};

pub(super) fn logits(hidden: &Tensor, head: &Tensor, out: &mut Vec<f32>) -> Result<()> {
    *out = times(hidden, &head.t()?)?.flatten_all()?.to_vec1()?;
    Ok(())
}

/// x · W, computed in the type W is held in.
pub(super) fn times(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    Ok(x.to_dtype(w.dtype())?.matmul(w)?.to_dtype(x.dtype())?)
}

pub(super) fn logits_backward(d_logits: &[f32], head: &Tensor) -> Result<Tensor> {
    let vocab = head.dim(0)?;
    let shape = (d_logits.len() / vocab, vocab);
    times(&Tensor::from_slice(d_logits, shape, head.device())?, head)
}

pub(super) fn adapt(
    y: Tensor,
    x: &Tensor,
    active: &[Adapting<'_>],
) -> Result<(Tensor, Option<Tensor>)> {
    if let [one] = active
        && one.rows.len() == y.dim(0)?
    {
        let (y, u) = adapt_rows(&y, x, one)?;
        return Ok((y, Some(u)));
    }
    for run in active {
        let rows = |tensor: &Tensor| tensor.narrow(0, run.rows.start, run.rows.len());
        let (changed, _) = adapt_rows(&rows(&y)?, &rows(x)?, run)?;
        y.slice_set(&changed.contiguous()?, 0, run.rows.start)?;
    }
    Ok((y, None))
}

/// y + s · (x Aᵀ) Bᵀ for the rows of one adapter, and x Aᵀ.
fn adapt_rows(y: &Tensor, x: &Tensor, run: &Adapting<'_>) -> Result<(Tensor, Tensor)> {
    let width = y.dim(1)?;
    let (mut columns, mut us, mut column) = (Vec::new(), Vec::new(), 0);
    for slot in run.slots {
        let (a, b) = run.lora.pair(slot, x.device())?;
        let u = x.matmul(&a.t()?)?;
        let delta = (u.matmul(&b.t()?)? * f64::from(run.lora.scale_of(slot)))?;
        columns.push(y.narrow(1, column, slot.column - column)?);
        columns.push((y.narrow(1, slot.column, slot.outputs)? + delta)?);
        us.push(u);
        column = slot.column + slot.outputs;
    }
    columns.push(y.narrow(1, column, width - column)?);
    columns.retain(|part| part.elem_count() > 0);
    Ok((Tensor::cat(&columns, 1)?, Tensor::cat(&us, 1)?))
}

pub(super) fn lora_grads(
    (dy, x, u): (&Tensor, &Tensor, &Tensor),
    lora: &Lora,
    slots: &[Slot],
    grads: &mut LoraGrads,
) -> Result<Tensor> {
    let rank = lora.rank();
    let mut all = Vec::with_capacity(slots.len());
    for (index, slot) in slots.iter().enumerate() {
        let (_, b) = lora.pair(slot, x.device())?;
        let dy = dy.narrow(1, slot.column, slot.outputs)?.contiguous()?;
        let dy = (dy * f64::from(lora.scale_of(slot)))?;
        let u = u.narrow(1, index * rank, rank)?.contiguous()?;
        let du = dy.matmul(&b)?;
        accumulate(grads.b_mut(slot), &dy.t()?.matmul(&u)?)?;
        accumulate(grads.a_stack_mut(std::slice::from_ref(slot)), &du.t()?.matmul(x)?)?;
        all.push(du);
    }
    Ok(Tensor::cat(&all, 1)?)
}

pub(super) fn add_lora_input(
    dx: Tensor,
    du: &Tensor,
    lora: &Lora,
    slots: &[Slot],
) -> Result<Tensor> {
    let rank = lora.rank();
    let mut dx = dx;
    for (index, slot) in slots.iter().enumerate() {
        let (a, _) = lora.pair(slot, du.device())?;
        dx = (dx + du.narrow(1, index * rank, rank)?.contiguous()?.matmul(&a)?)?;
    }
    Ok(dx)
}

fn accumulate(into: &mut [f32], gradient: &Tensor) -> Result<()> {
    for (sum, value) in into.iter_mut().zip(gradient.flatten_all()?.to_vec1::<f32>()?) {
        *sum += value;
    }
    Ok(())
}

pub(super) fn rms_norm(x: &Tensor, w: &Tensor, eps: f32) -> Result<Tensor> {
    Ok(x.broadcast_mul(&inverse_rms(x, eps)?)?.broadcast_mul(w)?)
}

/// dx = r · (g − x · r² · mean(g · x)), with g = dy · w and r = 1 / rms(x).
pub(super) fn rms_norm_backward(
    x: &Tensor,
    w: &Tensor,
    eps: f32,
    dy: &Tensor,
    onto: Option<Tensor>,
) -> Result<Tensor> {
    let r = inverse_rms(x, eps)?;
    let g = dy.broadcast_mul(w)?;
    let dot = (&g * x)?.mean_keepdim(D::Minus1)?;
    let shift = x.broadcast_mul(&(dot * r.sqr()?)?)?;
    let dx = (g - shift)?.broadcast_mul(&r)?;
    match onto {
        Some(onto) => Ok((onto + dx)?),
        None => Ok(dx),
    }
}

fn inverse_rms(x: &Tensor, eps: f32) -> Result<Tensor> {
    Ok((x.sqr()?.mean_keepdim(D::Minus1)? + f64::from(eps))?.sqrt()?.recip()?)
}

/// Half-split rotation: (a, b) of each head become (a cos − b sin, b cos + a sin).
pub(super) fn rotate(qkv: &Tensor, shape: HeadShape, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let rows = qkv.dim(0)?;
    let turned = shape.heads + shape.kv_heads;
    let half = shape.dim / 2;
    let heads = qkv.narrow(1, 0, turned * shape.dim)?.reshape((rows, turned, shape.dim))?;
    let (cos, sin) = (cos.unsqueeze(1)?, sin.unsqueeze(1)?);
    let (a, b) = (heads.narrow(2, 0, half)?, heads.narrow(2, half, half)?);
    let first = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
    let second = (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?;
    let heads = Tensor::cat(&[first, second], 2)?.reshape((rows, turned * shape.dim))?;
    let values = qkv.narrow(1, turned * shape.dim, shape.kv_dim())?;
    Ok(Tensor::cat(&[heads, values], 1)?)
}

pub(super) fn store(
    qkv: &Tensor,
    spans: &[Span],
    shape: HeadShape,
    (caches, layer): (&mut [&mut KvCache], usize),
) -> Result<()> {
    for (span, cache) in spans.iter().zip(caches) {
        let (_, new_keys, new_values) = split(&qkv.narrow(0, span.start, span.len)?, shape)?;
        let (keys, values) = cache.tensors(layer)?;
        keys.slice_set(&new_keys.contiguous()?, 0, span.past)?;
        values.slice_set(&new_values.contiguous()?, 0, span.past)?;
    }
    Ok(())
}

pub(super) fn attention(
    qkv: &Tensor,
    spans: &[Span],
    shape: HeadShape,
    cached: Option<Cached<'_, '_>>,
) -> Result<Attended> {
    let mut outs = Vec::with_capacity(spans.len());
    for (index, span) in spans.iter().enumerate() {
        let (q, ..) = split(&qkv.narrow(0, span.start, span.len)?, shape)?;
        let (k, v) = match cached {
            None => (joined(qkv, spans, index, (shape.q_dim(), shape.kv_dim()))?, {
                let first = shape.q_dim() + shape.kv_dim();
                joined(qkv, spans, index, (first, shape.kv_dim()))?
            }),
            Some((caches, layer)) => {
                let (keys, values) = caches[index].tensors(layer)?;
                let context = span.past + span.len;
                (keys.narrow(0, 0, context)?, values.narrow(0, 0, context)?)
            }
        };
        let (k, v) = (per_head(&k, shape, true)?, per_head(&v, shape, true)?);
        let p = probabilities(&per_head(&q, shape, false)?, &k, span.past, shape)?;
        let out = p.matmul(&v)?.transpose(0, 1)?.contiguous()?;
        outs.push(out.reshape((span.len, shape.q_dim()))?);
    }
    Ok(Attended { out: Tensor::cat(&outs, 0)?, lse: None })
}

pub(super) fn attention_backward(
    qkv: &Tensor,
    out: &Tensor,
    d_out: &Tensor,
    spans: &[Span],
    shape: HeadShape,
) -> Result<Tensor> {
    let (scale, kv) = (scale(shape), shape.kv_dim());
    let mut d_qkv = Tensor::zeros(qkv.dims(), qkv.dtype(), qkv.device())?;
    for (index, span) in spans.iter().enumerate() {
        let rows = |tensor: &Tensor| tensor.narrow(0, span.start, span.len);
        let q = per_head(&rows(&qkv.narrow(1, 0, shape.q_dim())?)?, shape, false)?;
        let k = per_head(&joined(qkv, spans, index, (shape.q_dim(), kv))?, shape, true)?;
        let v = per_head(&joined(qkv, spans, index, (shape.q_dim() + kv, kv))?, shape, true)?;
        let p = probabilities(&q, &k, span.past, shape)?;
        let d_out = per_head(&rows(d_out)?, shape, false)?;
        let out = per_head(&rows(out)?, shape, false)?;
        let d_v = p.transpose(1, 2)?.contiguous()?.matmul(&d_out)?;
        let d_p = d_out.matmul(&v.transpose(1, 2)?.contiguous()?)?;
        let inner = (&d_out * &out)?.sum_keepdim(D::Minus1)?;
        let d_s = ((p * d_p.broadcast_sub(&inner)?)? * scale)?;
        let d_q = d_s.matmul(&k)?;
        let d_k = d_s.transpose(1, 2)?.contiguous()?.matmul(&q)?;
        let (d_k, d_v) = (flat(&shared(&d_k, shape)?)?, flat(&shared(&d_v, shape)?)?);
        // Queries of the trunk are somebody else's, so its rows get a zero for them.
        let zeros = Tensor::zeros((span.past, shape.q_dim()), qkv.dtype(), qkv.device())?;
        let d_q = Tensor::cat(&[zeros, flat(&d_q)?], 0)?;
        let mut places = Batch::trunk(spans, index);
        places.push(span.rows());
        let places: Vec<u32> = places.into_iter().flatten().map(|row| row as u32).collect();
        let places = Tensor::from_slice(&places, places.len(), qkv.device())?;
        d_qkv = d_qkv.index_add(&places, &Tensor::cat(&[d_q, d_k, d_v], 1)?, 0)?;
    }
    Ok(d_qkv)
}

/// Some columns of everything a span reads: the rows it branches from, then its own.
fn joined(
    qkv: &Tensor,
    spans: &[Span],
    index: usize,
    (first, width): (usize, usize),
) -> Result<Tensor> {
    let columns = qkv.narrow(1, first, width)?;
    let mut rows = Batch::trunk(spans, index);
    rows.push(spans[index].rows());
    let parts = rows.into_iter().map(|rows| columns.narrow(0, rows.start, rows.len()));
    Ok(Tensor::cat(&parts.collect::<candle_core::Result<Vec<_>>>()?, 0)?)
}

fn scale(shape: HeadShape) -> f64 {
    1.0 / (shape.dim as f64).sqrt()
}

fn split(rows: &Tensor, shape: HeadShape) -> Result<(Tensor, Tensor, Tensor)> {
    let (q, kv) = (shape.q_dim(), shape.kv_dim());
    Ok((rows.narrow(1, 0, q)?, rows.narrow(1, q, kv)?, rows.narrow(1, q + kv, kv)?))
}

/// `[rows, heads · dim]` as `[heads, rows, dim]`; shared heads are repeated for their queries.
fn per_head(rows: &Tensor, shape: HeadShape, is_shared: bool) -> Result<Tensor> {
    let (count, dim) = (rows.dim(0)?, shape.dim);
    let heads = if is_shared { shape.kv_heads } else { shape.heads };
    let split = rows.contiguous()?.reshape((count, heads, dim))?.transpose(0, 1)?.contiguous()?;
    if !is_shared {
        return Ok(split);
    }
    let group = shape.heads / shape.kv_heads;
    let wide = split.unsqueeze(1)?.broadcast_as((heads, group, count, dim))?.contiguous()?;
    Ok(wide.reshape((shape.heads, count, dim))?)
}

/// Sums the gradients of repeated heads: `[heads, rows, dim]` to `[kv_heads, rows, dim]`.
fn shared(gradient: &Tensor, shape: HeadShape) -> Result<Tensor> {
    let (_, rows, dim) = gradient.dims3()?;
    let group = shape.heads / shape.kv_heads;
    Ok(gradient.reshape((shape.kv_heads, group, rows, dim))?.sum(1)?)
}

fn flat(heads: &Tensor) -> Result<Tensor> {
    let (count, rows, dim) = heads.dims3()?;
    Ok(heads.transpose(0, 1)?.contiguous()?.reshape((rows, count * dim))?)
}

fn probabilities(q: &Tensor, k: &Tensor, past: usize, shape: HeadShape) -> Result<Tensor> {
    let (_, rows, _) = q.dims3()?;
    let (_, context, _) = k.dims3()?;
    let scores = (q.matmul(&k.transpose(1, 2)?.contiguous()?)? * scale(shape))?;
    let visible = |row: usize, key: usize| if key <= past + row { 0.0 } else { f32::NEG_INFINITY };
    let mask: Vec<f32> =
        (0..rows).flat_map(|row| (0..context).map(move |key| visible(row, key))).collect();
    let scores = scores.broadcast_add(&Tensor::from_vec(mask, (1, rows, context), q.device())?)?;
    let weights = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
    Ok(weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?)
}

pub(super) fn swiglu(gate_up: &Tensor) -> Result<Tensor> {
    let width = gate_up.dim(1)? / 2;
    let (gate, up) = (gate_up.narrow(1, 0, width)?, gate_up.narrow(1, width, width)?);
    Ok((gate.silu()? * up)?)
}

pub(super) fn swiglu_backward(gate_up: &Tensor, d_act: &Tensor) -> Result<Tensor> {
    let width = gate_up.dim(1)? / 2;
    let (gate, up) = (gate_up.narrow(1, 0, width)?, gate_up.narrow(1, width, width)?);
    let sigmoid = (gate.neg()?.exp()? + 1.0)?.recip()?;
    // silu'(g) = σ(g) (1 + g (1 − σ(g)))
    let slope = (&sigmoid * ((&gate * (1.0 - &sigmoid)?)? + 1.0)?)?;
    let d_gate = ((d_act * up)? * slope)?;
    let d_up = (d_act * (gate * sigmoid)?)?;
    Ok(Tensor::cat(&[d_gate, d_up], 1)?)
}
