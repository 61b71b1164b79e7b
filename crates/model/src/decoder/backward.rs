//! The backward pass, layer by layer from the last to the first.

use candle_core::Tensor;

use super::{
    Decoder,
    forward::Pass,
    tape::{Kept, LayerTape, Tape},
};
use crate::{
    batch::{AdapterRun, Span},
    error::{Result, refuse},
    lora::{Group, Lora, LoraGrads},
    ops::{HeadShape, Ops, Rotation},
    weights::LayerWeights,
};

/// What every layer's backward pass shares.
struct Ctx<'a> {
    spans: &'a [Span],
    rotation: &'a Rotation,
    lora: &'a Lora,
}

impl Decoder {
    pub(super) fn backpropagate(
        &self,
        tape: Tape,
        d_hidden: &Tensor,
        lora: &Lora,
        grads: &mut LoraGrads,
    ) -> Result<()> {
        let Tape { batch, has_lora, layers, last, .. } = tape;
        let last = last.filter(|_| has_lora).ok_or_else(|| {
            refuse!(
                Lora,
                "the forward pass ran without an adapter, so there is no gradient for one"
            )
        })?;
        if d_hidden.dims() != last.dims() {
            let (given, expected) = (d_hidden.dims(), last.dims());
            return Err(refuse!(
                Batch,
                "d_hidden has shape {given:?}; the hidden states {expected:?}"
            ));
        }
        let rotation = self.rotation(&batch)?;
        let eps = self.config.norm_eps;
        let mut g =
            self.ops.rms_norm_backward(&last, &self.weights.final_norm, eps, d_hidden, None)?;
        drop(last);
        let adapters = AdapterRun::whole(&batch, Some(lora));
        let pass = Pass { spans: &batch.spans, rotation: rotation.clone(), adapters: &adapters };
        let ctx = Ctx { spans: &batch.spans, rotation: &rotation, lora };
        for (index, layer) in layers.into_iter().enumerate().rev() {
            let kept = match layer {
                LayerTape::Full(kept) => *kept,
                LayerTape::Input(x) => self.layer(index, x, &pass, None)?.1,
            };
            match self.layer_backward(index, kept, g, &ctx, grads)? {
                Some(d_x) => g = d_x,
                None => break,
            }
        }
        Ok(())
    }

    /// The gradient with respect to the layer's input; none for the first layer, whose input is
    /// the frozen embedding.
    fn layer_backward(
        &self,
        index: usize,
        kept: Kept,
        g: Tensor,
        ctx: &Ctx<'_>,
        grads: &mut LoraGrads,
    ) -> Result<Option<Tensor>> {
        let w = &self.weights.layers[index];
        let Kept { x, raw_qkv, qkv, attended, middle, gate_up, us } = kept;
        let [u_qkv, u_o, u_mlp, u_down] = us;
        let mlp = (middle, gate_up, u_mlp, u_down);
        let g = self.mlp_backward(index, w, mlp, g, ctx, grads)?;

        let (ops, shape) = (self.ops, HeadShape::of(&self.config));
        let d_out = ops.matmul_transposed(&g, &w.o)?;
        let parts = (&g, &attended.out, &u_o);
        let d_out = adapt(ops, parts, (index, Group::O), ctx, grads, d_out)?;
        let d_qkv = ops.attention_backward(&qkv, &attended, &d_out, ctx.spans, shape)?;
        drop((d_out, qkv, attended));
        let d_qkv = ops.rotate_back(d_qkv, shape, ctx.rotation)?;
        let d_qkv = self.norm_heads_backward(w, raw_qkv.as_ref(), d_qkv)?;

        let eps = self.config.norm_eps;
        let normed = ops.rms_norm(&x, &w.attention_norm, eps)?;
        let parts = (&d_qkv, &normed, &u_qkv);
        if index == 0 {
            adapter_grads(ops, parts, (index, Group::Qkv), ctx, grads)?;
            return Ok(None);
        }
        let d_normed = ops.matmul_transposed(&d_qkv, &w.qkv)?;
        let d_normed = adapt(ops, parts, (index, Group::Qkv), ctx, grads, d_normed)?;
        Ok(Some(ops.rms_norm_backward(&x, &w.attention_norm, eps, &d_normed, Some(g))?))
    }

    /// Takes the gradient through the feed-forward half, residual included.
    fn mlp_backward(
        &self,
        index: usize,
        w: &LayerWeights,
        (middle, gate_up, u_mlp, u_down): (Tensor, Tensor, Option<Tensor>, Option<Tensor>),
        g: Tensor,
        ctx: &Ctx<'_>,
        grads: &mut LoraGrads,
    ) -> Result<Tensor> {
        let (ops, eps) = (self.ops, self.config.norm_eps);
        let act = ops.swiglu(&gate_up)?;
        let d_act = ops.matmul_transposed(&g, &w.down)?;
        let parts = (&g, &act, &u_down);
        let d_act = adapt(ops, parts, (index, Group::Down), ctx, grads, d_act)?;
        drop(act);
        let d_gate_up = ops.swiglu_backward(gate_up, &d_act)?;
        drop(d_act);
        let normed = ops.rms_norm(&middle, &w.mlp_norm, eps)?;
        let d_normed = ops.matmul_transposed(&d_gate_up, &w.gate_up)?;
        let parts = (&d_gate_up, &normed, &u_mlp);
        let d_normed = adapt(ops, parts, (index, Group::GateUp), ctx, grads, d_normed)?;
        ops.rms_norm_backward(&middle, &w.mlp_norm, eps, &d_normed, Some(g))
    }

    fn norm_heads_backward(
        &self,
        w: &LayerWeights,
        raw: Option<&Tensor>,
        d_qkv: Tensor,
    ) -> Result<Tensor> {
        let (Some((q_norm, k_norm)), Some(raw)) = (&w.qk_norm, raw) else { return Ok(d_qkv) };
        let (rows, shape) = (raw.dim(0)?, HeadShape::of(&self.config));
        let (q, kv) = (shape.q_dim(), shape.kv_dim());
        let part = |start: usize, width: usize, scale: &Tensor| -> Result<Tensor> {
            let heads =
                |of: &Tensor| of.narrow(1, start, width)?.contiguous()?.reshape(((), shape.dim));
            let eps = self.config.norm_eps;
            let d = self.ops.rms_norm_backward(&heads(raw)?, scale, eps, &heads(&d_qkv)?, None)?;
            Ok(d.reshape((rows, width))?)
        };
        let values = d_qkv.narrow(1, q + kv, kv)?.contiguous()?;
        Ok(Tensor::cat(&[part(0, q, q_norm)?, part(q, kv, k_norm)?, values], 1)?)
    }
}

/// Adds the gradients of one group's adapters to `grads`, and their part of dx to `dx`.
fn adapt(
    ops: Ops,
    (dy, x, u): (&Tensor, &Tensor, &Option<Tensor>),
    (layer, group): (usize, Group),
    ctx: &Ctx<'_>,
    grads: &mut LoraGrads,
    dx: Tensor,
) -> Result<Tensor> {
    match adapter_grads(ops, (dy, x, u), (layer, group), ctx, grads)? {
        Some(du) => ops.add_lora_input(dx, &du, ctx.lora, ctx.lora.slots(layer, group)),
        None => Ok(dx),
    }
}

/// Adds the gradients of one group's adapters to `grads`; returns the gradient of x Aᵀ.
fn adapter_grads(
    ops: Ops,
    (dy, x, u): (&Tensor, &Tensor, &Option<Tensor>),
    (layer, group): (usize, Group),
    ctx: &Ctx<'_>,
    grads: &mut LoraGrads,
) -> Result<Option<Tensor>> {
    let slots = ctx.lora.slots(layer, group);
    if slots.is_empty() {
        return Ok(None);
    }
    // Never a silent zero: what should have a gradient must have been recorded.
    let u = u.as_ref().ok_or_else(|| {
        refuse!(Lora, "layer {layer} was run without this adapter, so its gradient is unknown")
    })?;
    ops.lora_grads((dy, x, u), ctx.lora, slots, grads).map(Some)
}
