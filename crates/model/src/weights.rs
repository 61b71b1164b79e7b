//! Frozen weights, each kept once, in the layout the forward pass reads fastest.

mod gguf;
mod hf;
mod random;

use candle_core::{Device, Tensor};
use rayon::prelude::*;

pub(crate) use gguf::GgufSource;
pub(crate) use hf::HfSource;
pub(crate) use random::RandomSource;

use crate::{
    config::ModelConfig,
    device::Place,
    error::{ModelError, Result},
    kernels::int8::{Bits, QuantisedRows},
    linear::{Head, Linear, Precision},
    lora::Module,
};

const EMBEDDING: &str = "model.embed_tokens.weight";

/// Everything the base model learnt. Linear maps are fused where they read one input; the embedding, which is also the head of most small models, is `[vocab, hidden]`.
#[derive(Debug)]
pub(crate) struct Weights {
    pub(crate) embedding: Tensor,
    pub(crate) head: Head,
    pub(crate) layers: Vec<LayerWeights>,
    pub(crate) final_norm: Tensor,
}

#[derive(Debug)]
pub(crate) struct LayerWeights {
    pub(crate) attention_norm: Tensor,
    pub(crate) qkv: Linear,
    pub(crate) qkv_bias: Option<Tensor>,
    /// Per-head scales of queries and keys, where the architecture has them.
    pub(crate) qk_norm: Option<(Tensor, Tensor)>,
    pub(crate) o: Linear,
    pub(crate) mlp_norm: Tensor,
    pub(crate) gate_up: Linear,
    pub(crate) down: Linear,
}

/// Something that holds tensors under Hugging Face names, row-major `[out, in]`.
pub(crate) trait TensorSource {
    /// The tensor as f32 values; its shape must be `shape`.
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>>;

    /// In how many bits products hold what the source has in blocks; none when it has numbers.
    fn bits(&self, _name: &str) -> Option<Bits> {
        None
    }

    /// A matrix `[rows, inputs]` in blocks: as the source holds it, or else rounded.
    fn blocks(
        &mut self,
        name: &str,
        (rows, inputs): (usize, usize),
        bits: Bits,
    ) -> Result<QuantisedRows> {
        Ok(QuantisedRows::round(&self.tensor(name, &[rows, inputs])?, inputs, bits))
    }
}

/// In how many bits products of maps are computed, where they are at all.
fn bits(place: &Place) -> Option<Bits> {
    match place.precision {
        Precision::Int8 => Some(Bits::Eight),
        Precision::Int4 => Some(Bits::Four),
        Precision::F32 | Precision::Bf16 | Precision::Q8 | Precision::Q4 => None,
    }
}

impl Weights {
    pub(crate) fn head(&self) -> &Head {
        &self.head
    }

    pub(crate) fn load(
        config: &ModelConfig,
        source: &mut dyn TensorSource,
        place: &Place,
    ) -> Result<Self> {
        let device = &place.device;
        // The embedding first: it is the largest, and now nothing else is held beside it.
        let embedding = matrix(source, EMBEDDING, config, device)?;
        let name = if config.tied_head { EMBEDDING } else { "lm_head.weight" };
        let head = if bits(place).is_some() {
            let shape = (config.vocab, config.hidden);
            Head::of_blocks(&[source.blocks(name, shape, Bits::Eight)?])
        } else if config.tied_head {
            Head::new(&embedding, place)?
        } else {
            Head::new(&matrix(source, name, config, device)?, place)?
        };
        let layers = (0..config.layers)
            .map(|layer| LayerWeights::load(config, layer, source, place))
            .collect::<Result<_>>()?;
        let final_norm = vector(source, "model.norm.weight", config.hidden, device)?;
        Ok(Self { embedding, head, layers, final_norm })
    }
}

impl LayerWeights {
    fn load(
        config: &ModelConfig,
        layer: usize,
        source: &mut dyn TensorSource,
        place: &Place,
    ) -> Result<Self> {
        let device = &place.device;
        let name = |suffix: &str| format!("model.layers.{layer}.{suffix}");
        let mut load = |modules: &[Module]| {
            let parts: Vec<_> = modules.iter().map(|m| (name(&m.path()), m.dims(config))).collect();
            fused(source, &parts, place)
        };
        let qkv = load(&[Module::Q, Module::K, Module::V])?;
        let o = load(&[Module::O])?;
        let gate_up = load(&[Module::Gate, Module::Up])?;
        let down = load(&[Module::Down])?;
        let qkv_bias = if config.qkv_bias {
            let mut bias = Vec::with_capacity(config.qkv_dim());
            for module in [Module::Q, Module::K, Module::V] {
                let key = format!("{}.bias", name(&module.path()));
                bias.extend(source.tensor(&key, &[module.dims(config).1])?);
            }
            Some(Tensor::from_vec(bias, config.qkv_dim(), device)?)
        } else {
            None
        };
        let qk_norm = if config.qk_norm {
            let q = vector(source, &name("self_attn.q_norm.weight"), config.head_dim, device)?;
            let k = vector(source, &name("self_attn.k_norm.weight"), config.head_dim, device)?;
            Some((q, k))
        } else {
            None
        };
        Ok(Self {
            attention_norm: vector(source, &name("input_layernorm.weight"), config.hidden, device)?,
            mlp_norm: vector(
                source,
                &name("post_attention_layernorm.weight"),
                config.hidden,
                device,
            )?,
            qkv,
            qkv_bias,
            qk_norm,
            o,
            gate_up,
            down,
        })
    }
}

fn vector(
    source: &mut dyn TensorSource,
    name: &str,
    len: usize,
    device: &Device,
) -> Result<Tensor> {
    Ok(Tensor::from_vec(source.tensor(name, &[len])?, len, device)?)
}

fn matrix(
    source: &mut dyn TensorSource,
    name: &str,
    config: &ModelConfig,
    device: &Device,
) -> Result<Tensor> {
    let shape = (config.vocab, config.hidden);
    Ok(Tensor::from_vec(source.tensor(name, &[shape.0, shape.1])?, shape, device)?)
}

/// Lays maps `[out, in]` that share their input side by side as one `[in, Σ out]`.
fn fused(
    source: &mut dyn TensorSource,
    parts: &[(String, (usize, usize))],
    place: &Place,
) -> Result<Linear> {
    let inputs = parts.first().map_or(0, |(_, dims)| dims.0);
    if let Some(asked) = bits(place) {
        // A file that spends more bits on a map has a reason, and maps read together are of a kind.
        let held = |(name, _): &(String, _)| source.bits(&format!("{name}.weight"));
        let more = parts.iter().any(|part| held(part) == Some(Bits::Eight));
        let bits = if more { Bits::Eight } else { asked };
        let blocks = |(name, (_, outputs)): &(String, (usize, usize))| {
            source.blocks(&format!("{name}.weight"), (*outputs, inputs), bits)
        };
        let parts: Vec<QuantisedRows> = parts.iter().map(blocks).collect::<Result<_>>()?;
        return Ok(Linear::of_blocks(&parts, bits));
    }
    let width = parts.iter().map(|(_, dims)| dims.1).sum();
    let mut fused = vec![0.0; inputs * width];
    let mut column = 0;
    for (name, (_, outputs)) in parts {
        let values = source.tensor(&format!("{name}.weight"), &[*outputs, inputs])?;
        transpose_into(&values, inputs, &mut fused, width, column);
        column += outputs;
    }
    Linear::new(fused, (inputs, width), place)
}

/// Writes the transpose of `from` `[rows, inputs]` into columns `column..` of `to` `[inputs, width]`.
fn transpose_into(from: &[f32], inputs: usize, to: &mut [f32], width: usize, column: usize) {
    // Bands of input rows, so that each band of `from` stays in cache while it is scattered.
    const BAND: usize = 16;
    to.par_chunks_mut(width * BAND).enumerate().for_each(|(band, to)| {
        for (row, source) in from.chunks_exact(inputs).enumerate() {
            let first = band * BAND;
            let last = (first + BAND).min(inputs);
            for (line, value) in to.chunks_exact_mut(width).zip(&source[first..last]) {
                line[column + row] = *value;
            }
        }
    });
}

pub(crate) fn wrong_shape(name: &str, found: &[usize], expected: &[usize]) -> ModelError {
    let what = format!("has shape {found:?}; the configuration expects {expected:?}");
    ModelError::Weight { name: name.to_owned(), what }
}
