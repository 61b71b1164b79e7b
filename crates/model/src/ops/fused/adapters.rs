//! Adapters at work: alone beside a map in f32, or within the product of a rounded one.

use std::{cmp::Reverse, mem, ops::Range};

use candle_core::Tensor;
use understudy_team as team;

use crate::{
    error::Result,
    host::{Host, change, scratch, tensor},
    kernels::{
        bf16::{self, Packed},
        columns::Columns,
        gemm::{Into, Threads, View, ViewMut, gemm},
        steady::{self, Adapted, Grouped, Held, Map, Panels, Rows, Run, TOGETHER},
    },
    lora::{Lora, LoraGrads, Slot},
    ops::Adapting,
};

/// Rows that are not worth cutting where there are runs for everybody: each piece reads its adapter
/// anew.
const SHORT: usize = 8;

/// y + s · (x Aᵀ) Bᵀ; also returns x Aᵀ of the one run that has all rows.
pub(in crate::ops) fn adapt(
    y: Tensor,
    x: &Tensor,
    active: &[Adapting<'_>],
) -> Result<(Tensor, Option<Tensor>)> {
    let (rows, inputs, width) = (x.dim(0)?, x.dim(1)?, y.dim(1)?);
    let x = Host::of(x)?;
    let mut us = Vec::new();
    change(&y, |y| us = adapt_runs(y, (&x, inputs, width), active))?;
    let u = match active {
        [one] if one.rows.len() == rows => Some(tensor(us.concat(), (rows, one.stack()))?),
        _ => None,
    };
    Ok((y, u))
}

/// Some rows of one run.
struct Piece<'a> {
    run: &'a Adapting<'a>,
    rows: Range<usize>,
}

/// Returns x Aᵀ of what every thread took at a time, of one run in order.
fn adapt_runs(
    y: &mut [f32],
    (x, inputs, width): (&[f32], usize, usize),
    active: &[Adapting<'_>],
) -> Vec<Vec<f32>> {
    let (mut rest, mut done, mut tasks) = (y, 0, Vec::new());
    for pieces in shared(active) {
        let (first, end) = (pieces[0].rows.start, pieces[pieces.len() - 1].rows.end);
        let tail = mem::take(&mut rest).split_at_mut((first - done) * width).1;
        let (mine, tail) = tail.split_at_mut((end - first) * width);
        (rest, done) = (tail, end);
        tasks.push((mine, &x[first * inputs..end * inputs], pieces));
    }
    // The longest first, so that nobody waits for one of them at the end.
    tasks.sort_by_key(|(y, ..)| Reverse(y.len()));
    team::map_items(tasks, |(y, x, pieces)| adapt_pieces(y, x, &pieces))
}

/// Cuts runs into pieces for all threads, and says which of them a thread takes at a time: rows of
/// different adapters are walked together, other pieces are taken alone.
fn shared<'a>(active: &'a [Adapting<'a>]) -> Vec<Vec<Piece<'a>>> {
    let all: usize = active.iter().map(|run| run.rows.len()).sum();
    let threads = team::threads();
    let piece = if active.len() <= threads {
        all.div_ceil(threads)
    } else {
        all.div_ceil(2 * threads).max(SHORT)
    };
    let together = active.len().div_ceil(threads).min(TOGETHER);
    let mut shared: Vec<Vec<Piece<'_>>> = Vec::new();
    for run in active {
        for first in run.rows.clone().step_by(piece) {
            let rows = first..(first + piece).min(run.rows.end);
            match shared.last_mut() {
                Some(pieces)
                    if pieces.len() < together
                        && steady::is_short(&rows)
                        && pieces.iter().all(|piece| steady::is_short(&piece.rows)) =>
                {
                    pieces.push(Piece { run, rows });
                }
                _ => shared.push(vec![Piece { run, rows }]),
            }
        }
    }
    shared
}

/// y += s · (x Aᵀ) Bᵀ of some pieces, within one thread; y and x begin with the first of them and end
/// with the last. Returns x Aᵀ in rows as wide as the widest needs.
fn adapt_pieces(y: &mut [f32], x: &[f32], pieces: &[Piece<'_>]) -> Vec<f32> {
    let first = pieces[0].rows.start;
    let rows = pieces[pieces.len() - 1].rows.end - first;
    let (inputs, width) = (x.len() / rows, y.len() / rows);
    let stack = pieces.iter().map(|piece| piece.run.stack()).max().unwrap_or(0);
    let mut u = vec![0.0; rows * stack];
    let reduced = pieces.iter().map(|Piece { run, rows }| Run {
        x: Rows::whole(&x[(rows.start - first) * inputs..], inputs),
        rows: rows.clone(),
        w: run.lora.a_turned(run.slots),
        column: 0,
    });
    let mut place = Columns::of(&mut u, (rows, stack), (0, stack));
    reduced.collect::<Grouped<'_>>().multiply(first, 0..stack, &mut place, Into::Replace);
    let of_slot = |index: usize| {
        let u = &u;
        pieces.iter().filter_map(move |Piece { run, rows }| {
            restored(run, index, (&u[(rows.start - first) * stack..], stack), rows.clone())
        })
    };
    let slots = pieces.iter().map(|piece| piece.run.slots.len()).max().unwrap_or(0);
    let mut place = Columns::of(y, (rows, width), (0, width));
    let all: Grouped<'_> = (0..slots).flat_map(of_slot).collect();
    all.multiply(first, 0..width, &mut place, Into::Add);
    u
}

/// s · u Bᵀ of one slot, for u in rows of this width that begin with the run's.
fn restored<'a>(
    run: &Adapting<'a>,
    slot: usize,
    (u, stack): (&'a [f32], usize),
    rows: Range<usize>,
) -> Option<Run<'a>> {
    let (at, rank) = (slot, run.lora.rank());
    let slot = run.slots.get(at)?;
    let x = Rows { values: &u[at * rank..], width: rank, stride: stack };
    Some(Run { rows, x, w: run.lora.b_turned(slot), column: slot.column })
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

/// Rows that one task multiplies by A.
const BAND: usize = 96;

/// (y +) x · W + s · (x Aᵀ) Bᵀ in one pass over y; also returns x Aᵀ.
pub(in crate::ops) fn apply_adapted(
    y: Option<Tensor>,
    x: &Tensor,
    w: &Packed,
    run: &Adapting<'_>,
) -> Result<(Tensor, Tensor)> {
    let ((rows, inputs), stack, outputs) = (x.dims2()?, run.stack(), w.outputs());
    let x = Host::of(x)?;
    let mut u = scratch(rows * stack);
    let a = run.lora.a_turned(run.slots);
    let reduced = Run { rows: 0..rows, x: Rows::whole(&x, inputs), w: a, column: 0 };
    let reduced: Grouped<'_> = [reduced].into_iter().collect();
    team::each_chunk(&mut u, BAND * stack, |band, u| {
        let mut place = Columns::of(u, (u.len() / stack, stack), (0, stack));
        reduced.multiply(band * BAND, 0..stack, &mut place, Into::Replace);
    });
    let of_slot = |slot| restored(run, slot, (&u, stack), 0..rows);
    let additions: Grouped<'_> = (0..run.slots.len()).filter_map(of_slot).collect();
    let product = |y: &mut [f32], into| bf16::product_with(y, (&x, w), rows, into, &additions);
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
    let (x, w_a) = (Rows::whole(&du, stack), Held::Plain(Panels::whole(a, inputs)));
    let run = Run { rows: 0..rows, x, w: w_a, column: 0 };
    bf16::product_with(&mut dx, (&dy, w), rows, Into::Replace, &[run].into_iter().collect());
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
