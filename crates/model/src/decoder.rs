//! The decoder: one forward pass for serving and training, and an explicit backward pass.
//!
//! The graph of a decoder is fixed, so its gradient is written out layer by layer instead of being
//! recorded: frozen weights get no gradient, no operation can drop out of the graph unnoticed, and
//! what is kept for the backward pass is exactly what [`Tape`] lists.

mod backward;
mod dropout;
mod forward;
mod tape;
#[cfg(test)]
mod tests;

use candle_core::{Device, Tensor};

pub use dropout::Dropout;
pub use tape::{Activations, Tape};

use crate::{
    batch::{AdapterRun, Batch},
    cache::{KvCache, KvDtype},
    config::ModelConfig,
    device::Place,
    error::{Result, refuse},
    logprob::{self, LogProbs, Term},
    lora::{Lora, LoraGrads},
    ops::Ops,
    weights::Weights,
};

/// A frozen base model that runs with any adapter.
#[derive(Debug)]
pub struct Decoder {
    config: ModelConfig,
    weights: Weights,
    device: Device,
    ops: Ops,
    /// θ^(−2i/d) for every rotated pair, scaled where the model's are.
    inverse_frequencies: Vec<f32>,
}

impl Decoder {
    pub(crate) fn new(config: ModelConfig, weights: Weights, place: &Place) -> Self {
        let inverse_frequencies = config.frequencies();
        let (device, ops) = (place.device.clone(), place.ops);
        Self { config, weights, device, ops, inverse_frequencies }
    }

    /// An empty cache for one sequence, which keeps what the training pass computes, bit for bit.
    pub fn cache(&self) -> Result<KvCache> {
        self.cache_in(KvDtype::F32)
    }

    /// The same in another element type. An accelerator knows f32 only.
    pub fn cache_in(&self, dtype: KvDtype) -> Result<KvCache> {
        KvCache::new(&self.config, &self.device, dtype)
    }

    /// Bytes of one token's keys and values in all layers.
    pub fn kv_bytes(&self, dtype: KvDtype) -> usize {
        2 * self.config.layers * self.config.kv_dim() * dtype.bytes()
    }

    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    pub fn device(&self) -> &Device {
        &self.device
    }

    pub(crate) fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Runs new tokens of several sequences, one cache per span, and appends them to the caches.
    /// Rows may use different adapters; runs must cover all rows in order. Returns the hidden
    /// states after the final norm, `[rows, hidden]`.
    pub fn infer(
        &self,
        batch: &Batch,
        caches: &mut [&mut KvCache],
        adapters: &[AdapterRun<'_>],
    ) -> Result<Tensor> {
        check_caches(batch, caches)?;
        for (cache, span) in caches.iter_mut().zip(&batch.spans) {
            cache.reserve(span.len)?;
        }
        let last = self.run(batch, adapters, Some(caches), None)?;
        let hidden = self.finish(&last)?;
        for (cache, span) in caches.iter_mut().zip(&batch.spans) {
            cache.advance(span.len);
        }
        Ok(hidden)
    }

    /// Scores over the vocabulary, `[rows, vocab]`, for hidden states `[rows, hidden]`.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        let hidden = hidden.contiguous()?;
        let head = self.weights.head();
        let mut logits = Vec::new();
        self.ops.logits(&hidden, head, &mut logits)?;
        Ok(Tensor::from_vec(logits, (hidden.dim(0)?, head.vocab), &self.device)?)
    }

    /// The same into a buffer, which a caller keeps from step to step: making room for a large
    /// batch's scores anew takes as long as computing some of them.
    pub fn logits_into(&self, hidden: &Tensor, logits: &mut Vec<f32>) -> Result<()> {
        let hidden = hidden.contiguous()?;
        self.ops.logits(&hidden, self.weights.head(), logits)
    }

    /// Hidden states of whole sequences after the final norm, `[rows, hidden]`, keeping nothing.
    pub fn hidden(&self, batch: &Batch, lora: Option<&Lora>) -> Result<Tensor> {
        let last = self.run(batch, &AdapterRun::whole(batch, lora), None, None)?;
        self.finish(&last)
    }

    /// The same hidden states, and what [`Self::backward`] needs.
    pub fn train_forward(&self, batch: &Batch, lora: Option<&Lora>) -> Result<(Tensor, Tape)> {
        self.train_forward_keeping(batch, lora, Activations::All)
    }

    /// The same, choosing what is kept: everything, or only layer inputs, from which the backward
    /// pass recomputes the rest (a third slower, several times smaller).
    pub fn train_forward_keeping(
        &self,
        batch: &Batch,
        lora: Option<&Lora>,
        keep: Activations,
    ) -> Result<(Tensor, Tape)> {
        self.train_forward_dropping(batch, lora, keep, None)
    }

    /// The same, with dropout on what the adapter reads.
    pub fn train_forward_dropping(
        &self,
        batch: &Batch,
        lora: Option<&Lora>,
        keep: Activations,
        dropout: Option<Dropout>,
    ) -> Result<(Tensor, Tape)> {
        let mut tape = Tape::new(batch.clone(), keep, lora.is_some(), dropout);
        let last = self.run(batch, &AdapterRun::whole(batch, lora), None, Some(&mut tape))?;
        let hidden = self.finish(&last)?;
        tape.last = Some(last);
        Ok((hidden, tape))
    }

    /// Adds to `grads` the gradient of Σ d_hidden · hidden with respect to the adapter.
    pub fn backward(
        &self,
        tape: Tape,
        d_hidden: &Tensor,
        lora: &Lora,
        grads: &mut LoraGrads,
    ) -> Result<()> {
        if !grads.belongs_to(lora) {
            return Err(refuse!(Lora, "the gradient buffer belongs to another adapter layout"));
        }
        self.backpropagate(tape, d_hidden, lora, grads)
    }

    /// Log-probability of each term's target under softmax(logits / temperature), with the entropy
    /// of that distribution. Several terms may read one row.
    pub fn log_probs(&self, hidden: &Tensor, terms: &[Term], temperature: f32) -> Result<LogProbs> {
        logprob::log_probs(self.ops, self.weights.head(), hidden, terms, temperature)
    }

    /// The same, and the gradient of Σ coefficient · log-probability with respect to `hidden`.
    pub fn log_probs_grad(
        &self,
        hidden: &Tensor,
        terms: &[Term],
        coefficients: &[f32],
        temperature: f32,
    ) -> Result<(LogProbs, Tensor)> {
        if coefficients.len() != terms.len() {
            let (given, expected) = (coefficients.len(), terms.len());
            return Err(refuse!(Batch, "{given} coefficients were given for {expected} terms"));
        }
        self.log_probs_grad_by(hidden, terms, temperature, &|index, _| coefficients[index])
    }

    /// The same in one pass for losses whose coefficient is a function of the term's own
    /// log-probability: `coefficient(term index, log-probability)`.
    pub fn log_probs_grad_by(
        &self,
        hidden: &Tensor,
        terms: &[Term],
        temperature: f32,
        coefficient: &(dyn Fn(usize, f32) -> f32 + Sync),
    ) -> Result<(LogProbs, Tensor)> {
        let head = self.weights.head();
        logprob::log_probs_grad(self.ops, head, hidden, terms, temperature, coefficient)
    }

    fn finish(&self, hidden: &Tensor) -> Result<Tensor> {
        self.ops.rms_norm(hidden, &self.weights.final_norm, self.config.norm_eps)
    }
}

fn check_caches(batch: &Batch, caches: &[&mut KvCache]) -> Result<()> {
    if caches.len() != batch.spans.len() {
        let (caches, spans) = (caches.len(), batch.spans.len());
        return Err(refuse!(Batch, "{caches} caches were given for {spans} sequences"));
    }
    match caches.iter().zip(&batch.spans).position(|(cache, span)| cache.len() != span.past) {
        Some(at) => {
            let (cached, past) = (caches[at].len(), batch.spans[at].past);
            Err(refuse!(
                Batch,
                "sequence {at} continues after {past} tokens but {cached} are cached"
            ))
        }
        None => Ok(()),
    }
}
