//! The few operations a decoder layer is made of, forward and backward.

mod portable;

use candle_core::Tensor;

use crate::{
    batch::Span,
    cache::KvCache,
    config::ModelConfig,
    error::Result,
    lora::{Lora, LoraGrads, Slot},
};

/// Which implementation computes. Both give the same numbers up to rounding; tests compare them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ops {
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

/// What attention keeps for its backward pass besides its inputs and output.
#[derive(Debug, Clone)]
pub(crate) struct Attended {
    /// `[rows, q_dim]`.
    pub(crate) out: Tensor,
    /// log Σ exp of every score row, `[rows, heads]`; only the fused kernels keep it.
    pub(crate) lse: Option<Tensor>,
}

impl Ops {
    pub(crate) fn for_device(_device: &candle_core::Device) -> Self {
        Self::Portable
    }

    /// x `[n, in]` · w `[in, out]`.
    pub(crate) fn matmul(self, x: &Tensor, w: &Tensor) -> Result<Tensor> {
        match self {
            Self::Portable => Ok(x.matmul(w)?),
        }
    }

    /// y + x · w; the caller gives `y` away.
    pub(crate) fn add_matmul(self, y: Tensor, x: &Tensor, w: &Tensor) -> Result<Tensor> {
        match self {
            Self::Portable => Ok((y + x.matmul(w)?)?),
        }
    }

    /// dy `[n, out]` · wᵀ for w `[in, out]`.
    pub(crate) fn matmul_transposed(self, dy: &Tensor, w: &Tensor) -> Result<Tensor> {
        match self {
            Self::Portable => Ok(dy.matmul(&w.t()?)?),
        }
    }

    /// Adds s · (x Aᵀ) Bᵀ of every slot to its columns of `rows` of y, and returns x Aᵀ,
    /// `[rows, slots · rank]`.
    pub(crate) fn add_lora(
        self,
        y: Tensor,
        x: &Tensor,
        rows: std::ops::Range<usize>,
        lora: &Lora,
        slots: &[Slot],
    ) -> Result<(Tensor, Tensor)> {
        match self {
            Self::Portable => portable::add_lora(y, x, rows, lora, slots),
        }
    }

    /// Adds dA and dB to `grads` and returns the gradient of u = x Aᵀ, `[rows, slots · rank]`.
    pub(crate) fn lora_grads(
        self,
        (dy, x, u): (&Tensor, &Tensor, &Tensor),
        lora: &Lora,
        slots: &[Slot],
        grads: &mut LoraGrads,
    ) -> Result<Tensor> {
        match self {
            Self::Portable => portable::lora_grads((dy, x, u), lora, slots, grads),
        }
    }

    /// dx + du A; the caller gives `dx` away.
    pub(crate) fn add_lora_input(
        self,
        dx: Tensor,
        du: &Tensor,
        lora: &Lora,
        slots: &[Slot],
    ) -> Result<Tensor> {
        match self {
            Self::Portable => portable::add_lora_input(dx, du, lora, slots),
        }
    }

    /// x / rms(x) · w over rows of the last dimension.
    pub(crate) fn rms_norm(self, x: &Tensor, w: &Tensor, eps: f32) -> Result<Tensor> {
        match self {
            Self::Portable => portable::rms_norm(x, w, eps),
        }
    }

    /// onto + the gradient of `rms_norm` with respect to x.
    pub(crate) fn rms_norm_backward(
        self,
        x: &Tensor,
        w: &Tensor,
        eps: f32,
        dy: &Tensor,
        onto: Option<Tensor>,
    ) -> Result<Tensor> {
        match self {
            Self::Portable => portable::rms_norm_backward(x, w, eps, dy, onto),
        }
    }

    /// Turns the query and key heads of fused rows by their positions.
    pub(crate) fn rotate(self, qkv: Tensor, shape: HeadShape, by: &Rotation) -> Result<Tensor> {
        match self {
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
            Self::Portable => portable::rotate(&qkv, shape, &by.cos, &by.sin.neg()?),
        }
    }

    /// Causal attention of every span over itself, or over its cache, which already holds it.
    pub(crate) fn attention(
        self,
        qkv: &Tensor,
        spans: &[Span],
        shape: HeadShape,
        cached: Option<(&[&mut KvCache], usize)>,
    ) -> Result<Attended> {
        match self {
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
        match self {
            Self::Portable => portable::attention_backward(qkv, &attended.out, d_out, spans, shape),
        }
    }

    /// silu(gate) · up of rows `[gate, up]`.
    pub(crate) fn swiglu(self, gate_up: &Tensor) -> Result<Tensor> {
        match self {
            Self::Portable => portable::swiglu(gate_up),
        }
    }

    /// The gradient of [`Self::swiglu`]; the caller gives `gate_up` away.
    pub(crate) fn swiglu_backward(self, gate_up: Tensor, d_act: &Tensor) -> Result<Tensor> {
        match self {
            Self::Portable => portable::swiglu_backward(&gate_up, d_act),
        }
    }
}
