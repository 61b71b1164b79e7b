//! The forward pass, the same for serving and for training.

use candle_core::Tensor;

use super::{
    Decoder,
    dropout::Dropout,
    tape::{Activations, Kept, KeptMlp, LayerTape, Tape},
};
use crate::{
    batch::{AdapterRun, Batch, Span},
    cache::KvCache,
    error::{Result, refuse},
    host::recycle,
    linear::Linear,
    lora::Group,
    ops::{HeadShape, Rotation},
    weights::LayerWeights,
};

/// What every layer of one forward pass shares.
pub(super) struct Pass<'a> {
    pub(super) spans: &'a [Span],
    pub(super) rotation: Rotation,
    pub(super) adapters: &'a [AdapterRun<'a>],
    pub(super) dropout: Option<Dropout>,
}

impl Decoder {
    /// Runs all layers and returns the last one's output, before the final norm.
    pub(super) fn run(
        &self,
        batch: &Batch,
        adapters: &[AdapterRun<'_>],
        mut caches: Option<&mut [&mut KvCache]>,
        mut tape: Option<&mut Tape>,
    ) -> Result<Tensor> {
        batch.check(&self.config)?;
        check_runs(batch, adapters)?;
        if caches.is_none() && batch.spans.iter().any(|span| span.past > 0 && span.after.is_none())
        {
            return Err(refuse!(Batch, "sequences that continue need their caches"));
        }
        if caches.is_some() && batch.spans.iter().any(|span| span.after.is_some()) {
            return Err(refuse!(Batch, "branches are for training; a cache holds one sequence"));
        }
        let dropout = tape.as_ref().and_then(|tape| tape.dropout);
        let pass = Pass { spans: &batch.spans, rotation: self.rotation(batch)?, adapters, dropout };
        let tokens = Tensor::from_slice(&batch.tokens, batch.rows(), &self.device)?;
        let mut x = self.weights.embedding.index_select(&tokens, 0)?;
        for index in 0..self.config.layers {
            let (out, kept) = self.layer(index, x, &pass, caches.as_deref_mut())?;
            x = out;
            match tape.as_deref_mut() {
                None => recycle(kept.release()),
                Some(tape) => tape.layers.push(match tape.keep {
                    Activations::All => LayerTape::Full(Box::new(kept)),
                    Activations::LayerInputs => LayerTape::Input(kept.release()),
                }),
            }
        }
        Ok(x)
    }

    pub(super) fn rotation(&self, batch: &Batch) -> Result<Rotation> {
        let (rows, half) = (batch.rows(), self.config.head_dim / 2);
        let (mut cos, mut sin) = (Vec::with_capacity(rows * half), Vec::with_capacity(rows * half));
        for position in batch.positions() {
            for frequency in &self.inverse_frequencies {
                // The angle is rounded to f32 first, as the models' training code does.
                let angle = f64::from(position as f32 * frequency);
                cos.push(angle.cos() as f32);
                sin.push(angle.sin() as f32);
            }
        }
        let shape = (rows, half);
        Ok(Rotation {
            cos: Tensor::from_vec(cos, shape, &self.device)?,
            sin: Tensor::from_vec(sin, shape, &self.device)?,
        })
    }

    /// x · W + bias and what the group's adapters make of x, or of what dropout leaves of it.
    fn apply_adapted(
        &self,
        x: &Tensor,
        (w, bias): (&Linear, Option<&Tensor>),
        at: (usize, Group),
        pass: &Pass<'_>,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let Some(dropout) = pass.dropout else {
            return self.ops.apply_adapted(x, (w, bias), at, pass.adapters);
        };
        let mut y = self.ops.apply(x, w)?;
        if let Some(bias) = bias {
            y = y.broadcast_add(bias)?;
        }
        self.ops.adapt(y, &(x * dropout.mask(x, at)?)?, at, pass.adapters)
    }

    /// The same added to y, which the caller gives away.
    fn add_apply_adapted(
        &self,
        y: Tensor,
        (x, w): (&Tensor, &Linear),
        at: (usize, Group),
        pass: &Pass<'_>,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let Some(dropout) = pass.dropout else {
            return self.ops.add_apply_adapted(y, (x, w), at, pass.adapters);
        };
        let y = self.ops.add_apply(y, x, w)?;
        self.ops.adapt(y, &(x * dropout.mask(x, at)?)?, at, pass.adapters)
    }

    /// One layer: x + attention(norm(x)), then + mlp(norm(·)).
    pub(super) fn layer(
        &self,
        index: usize,
        x: Tensor,
        pass: &Pass<'_>,
        caches: Option<&mut [&mut KvCache]>,
    ) -> Result<(Tensor, Kept)> {
        let (ops, eps, shape) = (self.ops, self.config.norm_eps, HeadShape::of(&self.config));
        let w = &self.weights.layers[index];

        let normed = ops.rms_norm(&x, &w.attention_norm, eps)?;
        let bias = w.qkv_bias.as_ref();
        let (qkv, u_qkv) =
            self.apply_adapted(&normed, (&w.qkv, bias), (index, Group::Qkv), pass)?;
        recycle(normed);
        let raw_qkv = w.qk_norm.is_some().then(|| qkv.clone());
        let qkv = self.norm_heads(w, qkv)?;
        let qkv = ops.rotate(qkv, shape, &pass.rotation)?;
        let attended = match caches {
            None => ops.attention(&qkv, pass.spans, shape, None)?,
            Some(caches) => {
                ops.store(&qkv, pass.spans, shape, (caches, index))?;
                ops.attention(&qkv, pass.spans, shape, Some((caches, index)))?
            }
        };
        let (middle, u_o) =
            self.add_apply_adapted(ops.copy(&x)?, (&attended.out, &w.o), (index, Group::O), pass)?;

        let normed = ops.rms_norm(&middle, &w.mlp_norm, eps)?;
        let (gate_up, u_gate_up) =
            self.apply_adapted(&normed, (&w.gate_up, None), (index, Group::GateUp), pass)?;
        recycle(normed);
        let act = ops.swiglu(&gate_up)?;
        let (out, u_down) = self.add_apply_adapted(
            ops.copy(&middle)?,
            (&act, &w.down),
            (index, Group::Down),
            pass,
        )?;
        recycle(act);

        let mlp = KeptMlp { middle, gate_up, u_gate_up, u_down };
        Ok((out, Kept { x, raw_qkv, qkv, attended, u_qkv, u_o, mlp }))
    }

    fn norm_heads(&self, w: &LayerWeights, qkv: Tensor) -> Result<Tensor> {
        let Some((q_norm, k_norm)) = &w.qk_norm else { return Ok(qkv) };
        let (rows, shape) = (qkv.dim(0)?, HeadShape::of(&self.config));
        let (q, kv) = (shape.q_dim(), shape.kv_dim());
        let norm = |start: usize, width: usize, scale: &Tensor| -> Result<Tensor> {
            let heads = qkv.narrow(1, start, width)?.contiguous()?.reshape(((), shape.dim))?;
            let heads = self.ops.rms_norm(&heads, scale, self.config.norm_eps)?;
            Ok(heads.reshape((rows, width))?)
        };
        let values = qkv.narrow(1, q + kv, kv)?.contiguous()?;
        Ok(Tensor::cat(&[norm(0, q, q_norm)?, norm(q, kv, k_norm)?, values], 1)?)
    }
}

fn check_runs(batch: &Batch, adapters: &[AdapterRun<'_>]) -> Result<()> {
    let mut next = 0;
    for run in adapters {
        if run.rows.start != next {
            return Err(refuse!(
                Batch,
                "adapter runs must cover the rows in order; row {next} is missing"
            ));
        }
        next = run.rows.end;
    }
    if next != batch.rows() {
        return Err(refuse!(Batch, "adapter runs cover {next} of {} rows", batch.rows()));
    }
    Ok(())
}
