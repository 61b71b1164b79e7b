//! Adapters at work: alone beside a map in f32, or within the product of a rounded one.

use candle_core::Tensor;
use rayon::prelude::*;

use crate::{
    error::Result,
    host::{Host, change, scratch, tensor},
    kernels::{
        bf16::{self, Addition, Packed},
        gemm::{Into, Threads, View, ViewMut, gemm},
        narrow::{self, Adapted, Map, Rows},
        thin,
    },
    lora::{Lora, LoraGrads, Slot},
    ops::Adapting,
};

pub(in crate::ops) fn adapt(
    y: Tensor,
    x: &Tensor,
    active: &[Adapting<'_>],
) -> Result<(Tensor, Option<Tensor>)> {
    let (rows, inputs, width) = (x.dim(0)?, x.dim(1)?, y.dim(1)?);
    let x = Host::of(x)?;
    let whole = match active {
        [one] if one.rows.len() == rows => Some(one),
        _ => None,
    };
    let mut us = Vec::new();
    change(&y, |y| match whole {
        Some(one) if rows > PIECES_UP_TO => us = vec![adapt_rows(y, &x, one, Threads::All)],
        _ => us = adapt_pieces(y, (&x, inputs, width), active),
    })?;
    let u = whole.map(|one| tensor(us.concat(), (rows, one.slots.len() * one.lora.rank())));
    Ok((y, u.transpose()?))
}

/// Up to this many rows it is faster to give each thread its own rows than to share products.
const PIECES_UP_TO: usize = 32;

/// Cuts runs into pieces for all threads; returns x Aᵀ of every piece, in order.
fn adapt_pieces(
    y: &mut [f32],
    (x, inputs, width): (&[f32], usize, usize),
    active: &[Adapting<'_>],
) -> Vec<Vec<f32>> {
    let pieces = rayon::current_num_threads().div_ceil(active.len());
    let mut tasks = Vec::with_capacity(active.len() * pieces);
    let (mut rest, mut done) = (y, 0);
    for run in active {
        let piece = run.rows.len().div_ceil(pieces);
        for first in run.rows.clone().step_by(piece) {
            let end = (first + piece).min(run.rows.end);
            let tail = std::mem::take(&mut rest).split_at_mut((first - done) * width).1;
            let (mine, tail) = tail.split_at_mut((end - first) * width);
            (rest, done) = (tail, end);
            tasks.push((mine, &x[first * inputs..end * inputs], run));
        }
    }
    tasks.into_par_iter().map(|(y, x, run)| adapt_rows(y, x, run, Threads::One)).collect()
}

/// y += s · (x Aᵀ) Bᵀ; returns x Aᵀ.
fn adapt_rows(y: &mut [f32], x: &[f32], run: &Adapting<'_>, threads: Threads) -> Vec<f32> {
    let rank = run.lora.rank();
    let inputs = run.slots.first().map_or(1, |slot| slot.inputs);
    let rows = x.len() / inputs;
    let width = y.len() / rows;
    let stack = run.slots.len() * rank;
    let a = run.lora.a_stack(run.slots);
    let mut u = vec![0.0; rows * stack];
    if rows <= thin::MOST_ROWS_ADAPTED {
        thin::adapter(x, a, rows, &mut u);
        for (index, slot) in run.slots.iter().enumerate() {
            let b = run.lora.b_transposed(slot);
            for (u, y) in u.chunks_exact(stack).zip(y.chunks_exact_mut(width)) {
                let y = &mut y[slot.column..slot.column + slot.outputs];
                thin::combine(&u[index * rank..][..rank], b, y);
            }
        }
        return u;
    }
    let place = ViewMut::whole(&mut u, rows, stack);
    let a = View::whole(a, stack, inputs).t();
    gemm(place, View::whole(x, rows, inputs), a, 1.0, Into::Replace, threads);
    for (index, slot) in run.slots.iter().enumerate() {
        let place = ViewMut::new(&mut y[slot.column..], rows, slot.outputs, width);
        let u = View::new(&u[index * rank..], rows, rank, stack);
        let b = View::whole(run.lora.b(slot), slot.outputs, rank).t();
        gemm(place, u, b, run.lora.scale_of(slot), Into::Add, threads);
    }
    u
}

pub(in crate::ops) fn lora_grads(
    (dy, x, u): (&Tensor, &Tensor, &Tensor),
    lora: &Lora,
    slots: &[Slot],
    grads: &mut LoraGrads,
) -> Result<Tensor> {
    let (rows, width, inputs, rank) = (dy.dim(0)?, dy.dim(1)?, x.dim(1)?, lora.rank());
    let stack = slots.len() * rank;
    let (dy, x, u) = (Host::of(dy)?, Host::of(x)?, Host::of(u)?);
    let mut du = vec![0.0; rows * stack];
    for (index, slot) in slots.iter().enumerate() {
        let dy = View::new(&dy[slot.column..], rows, slot.outputs, width);
        let u = View::new(&u[index * rank..], rows, rank, stack);
        let place = ViewMut::new(&mut du[index * rank..], rows, rank, stack);
        let b = View::whole(lora.b(slot), slot.outputs, rank);
        gemm(place, dy, b, lora.scale_of(slot), Into::Replace, Threads::All);
        let place = ViewMut::whole(grads.b_mut(slot), slot.outputs, rank);
        gemm(place, dy.t(), u, lora.scale_of(slot), Into::Add, Threads::All);
    }
    let place = ViewMut::whole(grads.a_stack_mut(slots), stack, inputs);
    let (du_view, x) = (View::whole(&du, rows, stack), View::whole(&x, rows, inputs));
    gemm(place, du_view.t(), x, 1.0, Into::Add, Threads::All);
    tensor(du, (rows, stack))
}

/// From this many rows on, an adapter is worth being fused with the map it adapts.
pub(in crate::ops) const FUSED_FROM: usize = 64;

/// (y +) x · W + s · (x Aᵀ) Bᵀ in one pass over y; also returns x Aᵀ.
pub(in crate::ops) fn apply_adapted(
    y: Option<Tensor>,
    x: &Tensor,
    w: &Packed,
    run: &Adapting<'_>,
) -> Result<(Tensor, Tensor)> {
    let ((rows, inputs), rank) = (x.dims2()?, run.lora.rank());
    let (stack, outputs) = (run.slots.len() * rank, w.outputs());
    let x = Host::of(x)?;
    let a = turned(run.lora.a_stack(run.slots), inputs, 1.0);
    let mut u = scratch(rows * stack);
    narrow::times(Rows::whole(&x, inputs), Rows::whole(&a, stack), 1.0, &mut u, (0, stack));
    let b = |slot: &Slot| turned(run.lora.b(slot), rank, run.lora.scale_of(slot));
    let bs: Vec<Vec<f32>> = run.slots.iter().map(b).collect();
    let slots = run.slots.iter().zip(&bs).enumerate();
    let additions: Vec<Addition<'_>> = slots
        .map(|(index, (slot, b))| Addition {
            u: Rows { values: &u[index * rank..], width: rank, stride: stack },
            w: Rows::whole(b, slot.outputs),
            column: slot.column,
        })
        .collect();
    let product = |y: &mut [f32], into| bf16::product_with(y, &x, w, rows, into, &additions);
    let y = if let Some(y) = y {
        change(&y, |y| product(y, Into::Add))?;
        y
    } else {
        let mut y = scratch(rows * outputs);
        product(&mut y, Into::Replace);
        tensor(y, (rows, outputs))?
    };
    Ok((y, tensor(u, (rows, stack))?))
}

/// scale times the transpose of row-major values of this width.
fn turned(values: &[f32], width: usize, scale: f32) -> Vec<f32> {
    let height = values.len() / width;
    let mut turned = vec![0.0; values.len()];
    for (row, values) in values.chunks_exact(width).enumerate() {
        for (value, column) in values.iter().zip(turned.chunks_exact_mut(height)) {
            column[row] = scale * value;
        }
    }
    turned
}

/// The same gradients as [`lora_grads`], by products that repack nothing, of an adapter with one
/// scale for all modules.
pub(in crate::ops) fn lora_grads_narrow(
    (dy, x, u): (&Tensor, &Tensor, &Tensor),
    lora: &Lora,
    slots: &[Slot],
    grads: &mut LoraGrads,
) -> Result<Tensor> {
    let (rows, rank) = (dy.dim(0)?, lora.rank());
    let (width, inputs) = (dy.dim(1)?, x.dim(1)?);
    let (dy, x, u) = (Host::of(dy)?, Host::of(x)?, Host::of(u)?);
    let map = |slot: &Slot| {
        let Slot { column, outputs, .. } = *slot;
        Map { column, outputs, b: lora.b(slot) }
    };
    let given = Adapted {
        dy: Rows::whole(&dy, width),
        x: Rows::whole(&x, inputs),
        u: &u,
        maps: slots.iter().map(map).collect(),
        rank,
        scale: lora.scale(),
    };
    let found = narrow::gradients(&given, rows);
    for (index, slot) in slots.iter().enumerate() {
        found.add_b(index, grads.b_mut(slot));
    }
    found.add_a(grads.a_stack_mut(slots));
    tensor(found.du, (rows, slots.len() * rank))
}

/// dy · Wᵀ + du · A for packed Wᵀ and A `[slots · rank, inputs]`.
pub(in crate::ops) fn apply_transposed_adapted(
    (dy, du): (&Tensor, &Tensor),
    w: &Packed,
    a: &[f32],
) -> Result<Tensor> {
    let ((rows, stack), inputs) = (du.dims2()?, w.outputs());
    let (dy, du) = (Host::of(dy)?, Host::of(du)?);
    let mut dx = scratch(rows * inputs);
    let (u, w_a) = (Rows::whole(&du, stack), Rows::whole(a, inputs));
    let addition = Addition { u, w: w_a, column: 0 };
    bf16::product_with(&mut dx, &dy, w, rows, Into::Replace, &[addition]);
    tensor(dx, (rows, inputs))
}

pub(in crate::ops) fn add_lora_input(
    dx: Tensor,
    du: &Tensor,
    lora: &Lora,
    slots: &[Slot],
) -> Result<Tensor> {
    let (rows, stack, inputs) = (du.dim(0)?, du.dim(1)?, dx.dim(1)?);
    let du = Host::of(du)?;
    let (du, a) = (View::whole(&du, rows, stack), View::whole(lora.a_stack(slots), stack, inputs));
    change(&dx, |dx| {
        gemm(ViewMut::whole(dx, rows, inputs), du, a, 1.0, Into::Add, Threads::All);
    })?;
    Ok(dx)
}
