//! The few operations a decoder layer is made of, forward and backward.

mod fused;
mod portable;

use candle_core::{Device, Tensor};

use crate::{
    batch::{AdapterRun, Span},
    cache::KvCache,
    config::ModelConfig,
    error::Result,
    linear::{Head, HeadLayout, Layout, Linear, Ready},
    lora::{Group, Lora, LoraGrads, Slot},
};

/// Which implementation computes. Both give the same numbers up to rounding; tests compare them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ops {
    /// Our own loops over f32 values in main memory.
    Fused,
    /// Tensor operations of candle, on any device.
    Portable,
}

/// Widths of one fused row of queries, keys and values.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadShape {
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) dim: usize,
}

impl HeadShape {
    pub(crate) fn of(config: &ModelConfig) -> Self {
        Self { heads: config.heads, kv_heads: config.kv_heads, dim: config.head_dim }
    }

    pub(crate) fn q_dim(self) -> usize {
        self.heads * self.dim
    }

    pub(crate) fn kv_dim(self) -> usize {
        self.kv_heads * self.dim
    }
}

/// Cosines and sines of every row's position, each `[rows, dim / 2]`.
#[derive(Debug, Clone)]
pub(crate) struct Rotation {
    pub(crate) cos: Tensor,
    pub(crate) sin: Tensor,
}

/// What attention keeps for its backward pass besides its inputs.
#[derive(Debug, Clone)]
pub(crate) struct Attended {
    /// `[rows, q_dim]`.
    pub(crate) out: Tensor,
    /// log Σ exp of every score row, `[rows, heads]`; only the fused kernels need it.
    pub(crate) lse: Option<Tensor>,
}

/// A step's caches, one per span, and the layer it is in.
pub(crate) type Cached<'a, 'b> = (&'a [&'b mut KvCache], usize);

impl Ops {
    pub(crate) fn for_device(device: &Device) -> Self {
        if device.is_cpu() { Self::Fused } else { Self::Portable }
    }

    /// x · W.
    pub(crate) fn apply(self, x: &Tensor, w: &Linear) -> Result<Tensor> {
        match (self, &w.weights) {
            (Self::Portable, Layout::Plain(w)) => portable::times(x, w),
            _ => fused::apply(x, w),
        }
    }

    /// A tensor of the same values, for an operation that is given its operand.
    pub(crate) fn copy(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Fused => fused::copy(x),
            Self::Portable => Ok(x.copy()?),
        }
    }

    /// y + x · W; the caller gives `y` away.
    pub(crate) fn add_apply(self, y: Tensor, x: &Tensor, w: &Linear) -> Result<Tensor> {
        match (self, &w.weights) {
            (Self::Portable, Layout::Plain(w)) => Ok((y + portable::times(x, w)?)?),
            _ => fused::add_apply(y, x, w),
        }
    }

    /// dy · Wᵀ.
    pub(crate) fn apply_transposed(self, dy: &Tensor, w: &Linear) -> Result<Tensor> {
        match (self, &w.weights) {
            (Self::Portable, Layout::Plain(w)) => portable::times(dy, &w.t()?),
            _ => fused::apply_transposed(dy, w),
        }
    }

    /// Scores of hidden rows over the vocabulary, row after row, into a buffer that is used again.
    pub(crate) fn logits(self, hidden: &Tensor, head: &Head, out: &mut Vec<f32>) -> Result<()> {
        match (self, &head.weights) {
            (Self::Portable, HeadLayout::Rows(rows)) => portable::logits(hidden, rows, out),
            _ => fused::logits(hidden, head, out),
        }
    }

    /// d_logits · head: the gradient with respect to the hidden rows.
    pub(crate) fn logits_backward(self, d_logits: &[f32], head: &Head) -> Result<Tensor> {
        match (self, &head.weights) {
            (Self::Portable, HeadLayout::Rows(rows)) => portable::logits_backward(d_logits, rows),
            _ => fused::logits_backward(d_logits, head),
        }
    }

    /// Adds s · (x Aᵀ) Bᵀ of each run's adapter to its rows of y, which the caller gives away. Also
    /// returns x Aᵀ, `[rows, slots · rank]`, of the one run when one adapter covers all rows.
    pub(crate) fn adapt(
        self,
        y: Tensor,
        x: &Tensor,
        place: (usize, Group),
        runs: &[AdapterRun<'_>],
    ) -> Result<(Tensor, Option<Tensor>)> {
        let active = active(place, runs);
        if active.is_empty() {
            return Ok((y, None));
        }
        match self {
            Self::Fused => fused::adapt(y, x, &active),
            Self::Portable => portable::adapt(y, x, &active),
        }
    }

    /// x · W, plus a bias, plus the adapters of [`Self::adapt`].
    pub(crate) fn apply_adapted(
        self,
        x: &Tensor,
        (w, bias): (&Linear, Option<&Tensor>),
        place: (usize, Group),
        runs: &[AdapterRun<'_>],
    ) -> Result<(Tensor, Option<Tensor>)> {
        if let Some(bias) = bias {
            let rows = bias.broadcast_as((x.dim(0)?, w.outputs))?.contiguous()?;
            // One row of it would be the bias itself.
            return self.add_apply_adapted(self.copy(&rows)?, (x, w), place, runs);
        }
        if let Some((packed, run)) = fusible(x, w, place, runs)? {
            let (y, u) = fused::apply_adapted(None, x, &packed, &run)?;
            return Ok((y, Some(u)));
        }
        self.adapt(self.apply(x, w)?, x, place, runs)
    }

    /// y + x · W, plus the adapters; the caller gives `y` away.
    pub(crate) fn add_apply_adapted(
        self,
        y: Tensor,
        (x, w): (&Tensor, &Linear),
        place: (usize, Group),
        runs: &[AdapterRun<'_>],
    ) -> Result<(Tensor, Option<Tensor>)> {
        if let Some((packed, run)) = fusible(x, w, place, runs)? {
            let (y, u) = fused::apply_adapted(Some(y), x, &packed, &run)?;
            return Ok((y, Some(u)));
        }
        self.adapt(self.add_apply(y, x, w)?, x, place, runs)
    }

    /// Adds dA and dB to `grads` and returns the gradient of u = x Aᵀ, `[rows, slots · rank]`.
    pub(crate) fn lora_grads(
        self,
        (dy, x, u, w): (&Tensor, &Tensor, &Tensor, &Linear),
        lora: &Lora,
        slots: &[Slot],
        grads: &mut LoraGrads,
    ) -> Result<Tensor> {
        match (self, w.is_rounded() && lora.has_one_scale()) {
            (Self::Fused, true) => fused::lora_grads_narrow((dy, x, u), lora, slots, grads),
            (Self::Fused, _) => fused::lora_grads((dy, x, u), lora, slots, grads),
            (Self::Portable, _) => portable::lora_grads((dy, x, u), lora, slots, grads),
        }
    }

    /// dy · Wᵀ + du · A.
    pub(crate) fn apply_transposed_adapted(
        self,
        (dy, du): (&Tensor, &Tensor),
        w: &Linear,
        lora: &Lora,
        slots: &[Slot],
    ) -> Result<Tensor> {
        if let Some(turned) = w.backward() {
            return fused::apply_transposed_adapted((dy, du), &turned, lora.a_stack(slots));
        }
        self.add_lora_input(self.apply_transposed(dy, w)?, du, lora, slots)
    }

    /// dx + du · A; the caller gives `dx` away.
    pub(crate) fn add_lora_input(
        self,
        dx: Tensor,
        du: &Tensor,
        lora: &Lora,
        slots: &[Slot],
    ) -> Result<Tensor> {
        match self {
            Self::Fused => fused::add_lora_input(dx, du, lora, slots),
            Self::Portable => portable::add_lora_input(dx, du, lora, slots),
        }
    }

    /// x / rms(x) · w over rows of the last dimension.
    pub(crate) fn rms_norm(self, x: &Tensor, w: &Tensor, eps: f32) -> Result<Tensor> {
        match self {
            Self::Fused => fused::rms_norm(x, w, eps),
            Self::Portable => portable::rms_norm(x, w, eps),
        }
    }

    /// onto + the gradient of `rms_norm` with respect to x; the caller gives `onto` away.
    pub(crate) fn rms_norm_backward(
        self,
        x: &Tensor,
        w: &Tensor,
        eps: f32,
        dy: &Tensor,
        onto: Option<Tensor>,
    ) -> Result<Tensor> {
        match self {
            Self::Fused => fused::rms_norm_backward(x, w, eps, dy, onto),
            Self::Portable => portable::rms_norm_backward(x, w, eps, dy, onto),
        }
    }

    /// Turns the query and key heads of fused rows by their positions; the caller gives them away.
    pub(crate) fn rotate(self, qkv: Tensor, shape: HeadShape, by: &Rotation) -> Result<Tensor> {
        match self {
            Self::Fused => fused::rotate(qkv, shape, by),
            Self::Portable => portable::rotate(&qkv, shape, &by.cos, &by.sin),
        }
    }

    /// Turns them back, which is the gradient of [`Self::rotate`].
    pub(crate) fn rotate_back(
        self,
        qkv: Tensor,
        shape: HeadShape,
        by: &Rotation,
    ) -> Result<Tensor> {
        match self {
            Self::Fused => fused::rotate_back(qkv, shape, by),
            Self::Portable => portable::rotate(&qkv, shape, &by.cos, &by.sin.neg()?),
        }
    }

    /// Writes every span's new keys and values into its cache.
    pub(crate) fn store(
        self,
        qkv: &Tensor,
        spans: &[Span],
        shape: HeadShape,
        (caches, layer): (&mut [&mut KvCache], usize),
    ) -> Result<()> {
        match self {
            Self::Fused => fused::store(qkv, spans, shape, (caches, layer)),
            Self::Portable => portable::store(qkv, spans, shape, (caches, layer)),
        }
    }

    /// Causal attention of every span over itself, or over its cache, which already holds it.
    pub(crate) fn attention(
        self,
        qkv: &Tensor,
        spans: &[Span],
        shape: HeadShape,
        cached: Option<Cached<'_, '_>>,
    ) -> Result<Attended> {
        match self {
            Self::Fused => fused::attention(qkv, spans, shape, cached),
            Self::Portable => portable::attention(qkv, spans, shape, cached),
        }
    }

    /// The gradient of attention without caches with respect to its fused rows.
    pub(crate) fn attention_backward(
        self,
        qkv: &Tensor,
        attended: &Attended,
        d_out: &Tensor,
        spans: &[Span],
        shape: HeadShape,
    ) -> Result<Tensor> {
        match (self, &attended.lse) {
            (Self::Fused, Some(lse)) => {
                fused::attention_backward(qkv, (&attended.out, lse), d_out, spans, shape)
            }
            _ => portable::attention_backward(qkv, &attended.out, d_out, spans, shape),
        }
    }

    /// silu(gate) · up of rows `[gate, up]`.
    pub(crate) fn swiglu(self, gate_up: &Tensor) -> Result<Tensor> {
        match self {
            Self::Fused => fused::swiglu(gate_up),
            Self::Portable => portable::swiglu(gate_up),
        }
    }

    /// The gradient of [`Self::swiglu`]; the caller gives `gate_up` away.
    pub(crate) fn swiglu_backward(self, gate_up: Tensor, d_act: &Tensor) -> Result<Tensor> {
        match self {
            Self::Fused => fused::swiglu_backward(gate_up, d_act),
            Self::Portable => portable::swiglu_backward(&gate_up, d_act),
        }
    }
}

/// The runs that have an adapter of these maps.
fn active<'a>((layer, group): (usize, Group), runs: &[AdapterRun<'a>]) -> Vec<Adapting<'a>> {
    let adapting = |run: &AdapterRun<'a>| {
        let lora = run.lora?;
        let slots = lora.slots(layer, group);
        let is_active = !slots.is_empty() && !run.rows.is_empty();
        is_active.then(|| Adapting { rows: run.rows.clone(), lora, slots })
    };
    runs.iter().filter_map(adapting).collect()
}

/// The weights and the one adapter of a map that computes both in one pass: rounded weights, and
/// rows enough, all of one adapter.
fn fusible<'a>(
    x: &Tensor,
    w: &'a Linear,
    place: (usize, Group),
    runs: &[AdapterRun<'a>],
) -> Result<Option<(Ready<'a>, Adapting<'a>)>> {
    if runs.len() != 1 || x.dim(0)? < fused::FUSED_FROM {
        return Ok(None);
    }
    let run = active(place, runs).pop();
    Ok(run.and_then(|run| w.forward().map(|packed| (packed, run))))
}

/// An adapter at work on some rows of one group of maps.
#[derive(Debug)]
pub(crate) struct Adapting<'a> {
    pub(crate) rows: std::ops::Range<usize>,
    pub(crate) lora: &'a Lora,
    pub(crate) slots: &'a [Slot],
}

impl Adapting<'_> {
    /// Width of x Aᵀ.
    fn stack(&self) -> usize {
        self.slots.len() * self.lora.rank()
    }
}

#[cfg(test)]
mod tests;
