//! Adapters at work: alone beside a map in f32, or within the product of a rounded one.

use std::cmp::Reverse;

use candle_core::Tensor;
use understudy_team as team;

use crate::{
    error::Result,
    host::{Host, change, scratch, tensor},
    kernels::{
        bf16::{self, Addition, Packed},
        gemm::{Into, Threads, View, ViewMut, gemm},
        steady::{self, Adapted, Held, Map, Panels, Rows},
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
    let mut us = Vec::new();
    change(&y, |y| us = adapt_pieces(y, (&x, inputs, width), active))?;
    let u = match active {
        [one] if one.rows.len() == rows => {
            Some(tensor(us.concat(), (rows, one.slots.len() * one.lora.rank()))?)
        }
        _ => None,
    };
    Ok((y, u))
}

/// Rows that are not worth cutting where there are runs for everybody: each piece reads its adapter
/// anew.
const SHORT: usize = 8;

/// Cuts runs into pieces for all threads, the longest first, so that nobody waits for one of them at
/// the end. Returns x Aᵀ of every piece, of one run in order.
fn adapt_pieces(
    y: &mut [f32],
    (x, inputs, width): (&[f32], usize, usize),
    active: &[Adapting<'_>],
) -> Vec<Vec<f32>> {
    let all: usize = active.iter().map(|run| run.rows.len()).sum();
    let threads = team::threads();
    let piece = if active.len() <= threads {
        all.div_ceil(threads)
    } else {
        all.div_ceil(2 * threads).max(SHORT)
    };
    let mut tasks = Vec::with_capacity(active.len());
    let (mut rest, mut done) = (y, 0);
    for run in active {
        for first in run.rows.clone().step_by(piece) {
            let end = (first + piece).min(run.rows.end);
            let tail = std::mem::take(&mut rest).split_at_mut((first - done) * width).1;
            let (mine, tail) = tail.split_at_mut((end - first) * width);
            (rest, done) = (tail, end);
            tasks.push((mine, &x[first * inputs..end * inputs], run));
        }
    }
    tasks.sort_by_key(|(y, ..)| Reverse(y.len()));
    team::map_items(tasks, |(y, x, run)| adapt_rows(y, x, run))
}

/// y += s · (x Aᵀ) Bᵀ, within one thread; returns x Aᵀ.
fn adapt_rows(y: &mut [f32], x: &[f32], run: &Adapting<'_>) -> Vec<f32> {
    let rank = run.lora.rank();
    let inputs = run.slots.first().map_or(1, |slot| slot.inputs);
    let (rows, stack) = (x.len() / inputs, run.slots.len() * rank);
    let width = y.len() / rows;
    let mut u = vec![0.0; rows * stack];
    let (x, place) = ((Rows::whole(x, inputs), rows), (&mut u[..], 0, stack));
    run.lora.a_turned(run.slots).multiply(x, 0..stack, place, Into::Replace);
    for (index, slot) in run.slots.iter().enumerate() {
        let u = (Rows { values: &u[index * rank..], width: rank, stride: stack }, rows);
        let place = (&mut *y, slot.column, width);
        run.lora.b_turned(slot).multiply(u, 0..slot.outputs, place, Into::Add);
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
    let mut u = scratch(rows * stack);
    run.lora.a_turned(run.slots).times(Rows::whole(&x, inputs), &mut u, (0, stack));
    let slots = run.slots.iter().enumerate();
    let additions: Vec<Addition<'_>> = slots
        .map(|(index, slot)| Addition {
            u: Rows { values: &u[index * rank..], width: rank, stride: stack },
            w: run.lora.b_turned(slot),
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
    let found = steady::gradients(&given, rows);
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
    let (u, w_a) = (Rows::whole(&du, stack), Panels::whole(a, inputs));
    let addition = Addition { u, w: Held::Plain(w_a), column: 0 };
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
