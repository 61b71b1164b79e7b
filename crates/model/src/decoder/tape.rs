//! What the forward pass keeps for the backward pass.

use candle_core::Tensor;

use super::dropout::Dropout;
use crate::{batch::Batch, host::recycle, ops::Attended};

/// How much of the forward pass is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Activations {
    /// Everything the backward pass reads: the fastest.
    #[default]
    All,
    /// Only each layer's input; the backward pass runs each layer's forward again.
    LayerInputs,
}

/// The record of one training forward pass, consumed by its backward pass.
#[derive(Debug)]
pub struct Tape {
    pub(super) batch: Batch,
    pub(super) keep: Activations,
    pub(super) has_lora: bool,
    pub(super) dropout: Option<Dropout>,
    pub(super) layers: Vec<LayerTape>,
    /// Output of the last layer, before the final norm.
    pub(super) last: Option<Tensor>,
}

#[derive(Debug)]
pub(super) enum LayerTape {
    Input(Tensor),
    Full(Box<Kept>),
}

/// What one layer's backward pass reads. Normed inputs and the gated activation are not here: they
/// are cheap to recompute and as large as everything else together.
#[derive(Debug)]
pub(super) struct Kept {
    /// Input of the layer, `[rows, hidden]`.
    pub(super) x: Tensor,
    /// Fused rows before the per-head norm, only where the architecture has one.
    pub(super) raw_qkv: Option<Tensor>,
    /// Fused rows as attention read them, `[rows, qkv]`.
    pub(super) qkv: Tensor,
    pub(super) attended: Attended,
    /// x Aᵀ of the adapted maps that read `x` and the attention's output.
    pub(super) u_qkv: Option<Tensor>,
    pub(super) u_o: Option<Tensor>,
    pub(super) mlp: KeptMlp,
}

impl Kept {
    /// Gives everything up but the layer's input.
    pub(super) fn release(self) -> Tensor {
        let KeptMlp { middle, gate_up, u_gate_up, u_down } = self.mlp;
        let always = [self.qkv, self.attended.out, middle, gate_up];
        let adapted = [self.u_qkv, self.u_o, u_gate_up, u_down];
        for tensor in always.into_iter().chain(adapted.into_iter().flatten()) {
            recycle(tensor);
        }
        self.x
    }
}

/// The feed-forward half of [`Kept`].
#[derive(Debug)]
pub(super) struct KeptMlp {
    /// Its input, after attention's residual, `[rows, hidden]`.
    pub(super) middle: Tensor,
    /// `[rows, 2 · intermediate]`.
    pub(super) gate_up: Tensor,
    pub(super) u_gate_up: Option<Tensor>,
    pub(super) u_down: Option<Tensor>,
}

impl Tape {
    pub(super) fn new(
        batch: Batch,
        keep: Activations,
        has_lora: bool,
        dropout: Option<Dropout>,
    ) -> Self {
        Self { batch, keep, has_lora, dropout, layers: Vec::new(), last: None }
    }
}
