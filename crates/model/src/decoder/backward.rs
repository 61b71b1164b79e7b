//! The backward pass, layer by layer from the last to the first.

use candle_core::Tensor;

use super::{
    Decoder,
    forward::Pass,
    tape::{Kept, KeptMlp, LayerTape, Tape},
};
use crate::{
    batch::AdapterRun,
    error::{Result, refuse},
    host::recycle,
    linear::Linear,
    lora::{Group, Lora, LoraGrads},
    ops::HeadShape,
    weights::LayerWeights,
};

impl Decoder {
    pub(super) fn backpropagate(
        &self,
        tape: Tape,
        d_hidden: &Tensor,
        lora: &Lora,
        grads: &mut LoraGrads,
    ) -> Result<()> {
        let Tape { batch, has_lora, layers, last, dropout, .. } = tape;
        let last = last.filter(|_| has_lora).ok_or_else(|| {
            refuse!(Lora, "the forward pass ran without an adapter, so there is no gradient of one")
        })?;
        if d_hidden.dims() != last.dims() {
            let (given, expected) = (d_hidden.dims(), last.dims());
            let what = format!("d_hidden has shape {given:?}; the hidden states {expected:?}");
            return Err(refuse!(Batch, "{what}"));
        }
        let (w, eps) = (&self.weights.final_norm, self.config.norm_eps);
        let mut g = self.ops.rms_norm_backward(&last, w, eps, d_hidden, None)?;
        drop(last);
        let adapters = AdapterRun::whole(&batch, Some(lora));
        let rotation = self.rotation(&batch)?;
        let pass = Pass { spans: &batch.spans, rotation, adapters: &adapters, dropout };
        let mut backward = Backward { decoder: self, pass: &pass, lora, grads };
        for (index, layer) in layers.into_iter().enumerate().rev() {
            let kept = match layer {
                LayerTape::Full(kept) => *kept,
                LayerTape::Input(x) => self.layer(index, x, &pass, None)?.1,
            };
            match backward.layer(index, kept, g)? {
                Some(d_x) => g = d_x,
                None => break,
            }
        }
        Ok(())
    }
}

/// What every layer's backward pass shares.
struct Backward<'a> {
    decoder: &'a Decoder,
    pass: &'a Pass<'a>,
    lora: &'a Lora,
    grads: &'a mut LoraGrads,
}

/// One group of maps as the forward pass ran it, and the gradient that reached its output.
struct Ran<'a> {
    layer: usize,
    group: Group,
    dy: &'a Tensor,
    x: &'a Tensor,
    u: Option<&'a Tensor>,
    w: &'a Linear,
}

impl Backward<'_> {
    /// The gradient with respect to the layer's input; none for the first layer, whose input is
    /// the frozen embedding.
    fn layer(&mut self, layer: usize, kept: Kept, g: Tensor) -> Result<Option<Tensor>> {
        let Kept { x, raw_qkv, qkv, attended, u_qkv, u_o, mlp } = kept;
        let g = self.mlp(layer, mlp, g)?;

        let (ops, config) = (self.decoder.ops, &self.decoder.config);
        let (w, shape) = (&self.decoder.weights.layers[layer], HeadShape::of(config));
        let group = Group::O;
        let ran = Ran { layer, group, dy: &g, x: &attended.out, u: u_o.as_ref(), w: &w.o };
        let d_out = self.map(&ran)?;
        let d_qkv = ops.attention_backward(&qkv, &attended, &d_out, self.pass.spans, shape)?;
        for tensor in [d_out, qkv, attended.out] {
            recycle(tensor);
        }
        let d_qkv = ops.rotate_back(d_qkv, shape, &self.pass.rotation)?;
        let d_qkv = self.head_norms(w, raw_qkv.as_ref(), d_qkv)?;

        let normed = ops.rms_norm(&x, &w.attention_norm, config.norm_eps)?;
        let group = Group::Qkv;
        let ran = Ran { layer, group, dy: &d_qkv, x: &normed, u: u_qkv.as_ref(), w: &w.qkv };
        if layer == 0 {
            self.adapter_grads(&ran)?;
            return Ok(None);
        }
        let d_normed = self.map(&ran)?;
        let (w, eps) = (&w.attention_norm, config.norm_eps);
        let g = ops.rms_norm_backward(&x, w, eps, &d_normed, Some(g))?;
        for tensor in [x, normed, d_qkv, d_normed].into_iter().chain(u_qkv).chain(u_o) {
            recycle(tensor);
        }
        Ok(Some(g))
    }

    /// Takes the gradient through the feed-forward half, residual included.
    fn mlp(&mut self, layer: usize, kept: KeptMlp, g: Tensor) -> Result<Tensor> {
        let KeptMlp { middle, gate_up, u_gate_up, u_down } = kept;
        let (ops, eps) = (self.decoder.ops, self.decoder.config.norm_eps);
        let w = &self.decoder.weights.layers[layer];

        let act = ops.swiglu(&gate_up)?;
        let group = Group::Down;
        let ran = Ran { layer, group, dy: &g, x: &act, u: u_down.as_ref(), w: &w.down };
        let d_act = self.map(&ran)?;
        recycle(act);
        let d_gate_up = ops.swiglu_backward(gate_up, &d_act)?;
        recycle(d_act);

        let x = ops.rms_norm(&middle, &w.mlp_norm, eps)?;
        let group = Group::GateUp;
        let u = u_gate_up.as_ref();
        let ran = Ran { layer, group, dy: &d_gate_up, x: &x, u, w: &w.gate_up };
        let d_x = self.map(&ran)?;
        let g = ops.rms_norm_backward(&middle, &w.mlp_norm, eps, &d_x, Some(g))?;
        for tensor in [middle, x, d_gate_up, d_x].into_iter().chain(u_gate_up).chain(u_down) {
            recycle(tensor);
        }
        Ok(g)
    }

    /// Takes the gradient through the per-head norms of queries and keys, where there are any.
    fn head_norms(&self, w: &LayerWeights, raw: Option<&Tensor>, d_qkv: Tensor) -> Result<Tensor> {
        let (Some((q_norm, k_norm)), Some(raw)) = (&w.qk_norm, raw) else { return Ok(d_qkv) };
        let (ops, config) = (self.decoder.ops, &self.decoder.config);
        let (rows, q, kv) = (raw.dim(0)?, config.q_dim(), config.kv_dim());
        let part = |start: usize, width: usize, scale: &Tensor| -> Result<Tensor> {
            let heads = |of: &Tensor| {
                of.narrow(1, start, width)?.contiguous()?.reshape(((), config.head_dim))
            };
            let (x, dy) = (heads(raw)?, heads(&d_qkv)?);
            let d = ops.rms_norm_backward(&x, scale, config.norm_eps, &dy, None)?;
            Ok(d.reshape((rows, width))?)
        };
        let values = d_qkv.narrow(1, q + kv, kv)?.contiguous()?;
        Ok(Tensor::cat(&[part(0, q, q_norm)?, part(q, kv, k_norm)?, values], 1)?)
    }

    /// Takes the gradient through one group of maps, adding those of its adapters to the sum.
    fn map(&mut self, ran: &Ran<'_>) -> Result<Tensor> {
        let du = self.adapter_grads(ran)?;
        let (ops, slots) = (self.decoder.ops, self.lora.slots(ran.layer, ran.group));
        let Some(du) = du else { return ops.apply_transposed(ran.dy, ran.w) };
        let dx = match self.pass.dropout {
            None => ops.apply_transposed_adapted((ran.dy, &du), ran.w, self.lora, slots)?,
            Some(dropout) => {
                let dx = ops.apply_transposed(ran.dy, ran.w)?;
                let own = ops.add_lora_input(dx.zeros_like()?, &du, self.lora, slots)?;
                (dx + (own * dropout.mask(ran.x, (ran.layer, ran.group))?)?)?
            }
        };
        recycle(du);
        Ok(dx)
    }

    /// Adds the gradients of one group's adapters to the sum; returns the gradient of x Aᵀ.
    fn adapter_grads(&mut self, ran: &Ran<'_>) -> Result<Option<Tensor>> {
        let slots = self.lora.slots(ran.layer, ran.group);
        if slots.is_empty() {
            return Ok(None);
        }
        // Never a silent zero: what should have a gradient must have been recorded.
        let u = ran.u.ok_or_else(|| {
            let layer = ran.layer;
            refuse!(Lora, "layer {layer} ran without this adapter, so its gradient is unknown")
        })?;
        let ops = self.decoder.ops;
        let dropped = match self.pass.dropout {
            Some(dropout) => Some((ran.x * dropout.mask(ran.x, (ran.layer, ran.group))?)?),
            None => None,
        };
        let x = dropped.as_ref().unwrap_or(ran.x);
        ops.lora_grads((ran.dy, x, u, ran.w), self.lora, slots, self.grads).map(Some)
    }
}
