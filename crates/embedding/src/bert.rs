//! BERT's encoder over flat rows: sentences lie behind one another, and nothing is padded.
//!
//! Source: Devlin et al., "BERT" (2019); names of tensors as in Hugging Face's `BertModel`.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use safetensors::SafeTensors;
use understudy_model::PackedMap;

use crate::{
    attention::attend,
    config::Config,
    error::{EmbeddingError, Result},
    fused::{BiasGelu, Norm, ResidualNorm, add_bias},
};

/// The weights of an encoder.
#[derive(Debug)]
pub(crate) struct Bert {
    /// `[vocabulary, hidden]`.
    words: Vec<f32>,
    /// `[positions, hidden]`, with the first segment's vector added: there is only one segment.
    positions: Vec<f32>,
    first_norm: Norm,
    layers: Vec<Layer>,
    hidden: usize,
    intermediate: usize,
    heads: usize,
}

#[derive(Debug)]
struct Layer {
    /// Queries, keys and values side by side: `[hidden, 3·hidden]` and `[3·hidden]`.
    attend: PackedMap,
    attend_bias: Vec<f32>,
    /// `[hidden, hidden]`; its bias is added where the result is normalised.
    mix: PackedMap,
    mix_norm: ResidualNorm,
    /// `[hidden, intermediate]`.
    widen: PackedMap,
    gelu: BiasGelu,
    /// `[intermediate, hidden]`.
    narrow: PackedMap,
    narrow_norm: ResidualNorm,
}

impl Bert {
    pub(crate) fn load(path: &Path, bytes: &[u8], config: &Config) -> Result<Self> {
        let unsuitable = |why: String| EmbeddingError::Unsuitable { path: path.to_owned(), why };
        let tensors =
            SafeTensors::deserialize(bytes).map_err(|error| unsuitable(error.to_string()))?;
        let source = Source { path, tensors };
        let (hidden, wide) = (config.hidden, config.intermediate);
        let layer = |at: usize| -> Result<Layer> {
            let name = |rest: &str| format!("encoder.layer.{at}.{rest}");
            let parts =
                ["query", "key", "value"].map(|part| name(&format!("attention.self.{part}")));
            let mut attend_bias = Vec::with_capacity(3 * hidden);
            for part in &parts {
                attend_bias.extend(source.values(&format!("{part}.bias"), hidden)?);
            }
            let norm = |dense: &str, norm: &str| -> Result<ResidualNorm> {
                let bias = source.values(&format!("{}.bias", name(dense)), hidden)?;
                Ok(ResidualNorm { bias, norm: source.norm(&name(norm), config)? })
            };
            Ok(Layer {
                attend: source.map(&parts, hidden, hidden)?,
                attend_bias,
                mix: source.map(&[name("attention.output.dense")], hidden, hidden)?,
                mix_norm: norm("attention.output.dense", "attention.output.LayerNorm")?,
                widen: source.map(&[name("intermediate.dense")], wide, hidden)?,
                gelu: BiasGelu(source.values(&name("intermediate.dense.bias"), wide)?),
                narrow: source.map(&[name("output.dense")], hidden, wide)?,
                narrow_norm: norm("output.dense", "output.LayerNorm")?,
            })
        };
        let positions =
            source.tensor("embeddings.position_embeddings.weight", &[config.positions, hidden])?;
        let segment = source.first_row("embeddings.token_type_embeddings.weight", hidden)?;
        let words = "embeddings.word_embeddings.weight";
        Ok(Self {
            words: flat(&source.tensor(words, &[config.vocabulary, hidden])?)?,
            positions: flat(&positions.broadcast_add(&segment)?)?,
            first_norm: source.norm("embeddings.LayerNorm", config)?,
            layers: (0..config.layers).map(layer).collect::<Result<_>>()?,
            hidden,
            intermediate: wide,
            heads: config.heads,
        })
    }

    /// The last layer's vector of every token, `[tokens, hidden]` row by row.
    pub(crate) fn forward(&self, sentences: &[Vec<u32>]) -> Vec<f32> {
        let mut x = self.embed(sentences);
        let lengths: Vec<usize> = sentences.iter().map(Vec::len).collect();
        let rows = x.len() / self.hidden;
        let mut qkv = vec![0.0; rows * 3 * self.hidden];
        let mut seen = vec![0.0; rows * self.hidden];
        let mut mixed = vec![0.0; rows * self.hidden];
        let mut wide = vec![0.0; rows * self.intermediate];
        for layer in &self.layers {
            layer.attend.multiply(&x, &mut qkv);
            add_bias(&mut qkv, &layer.attend_bias);
            attend(&qkv, &lengths, self.heads, &mut seen);
            layer.mix.multiply(&seen, &mut mixed);
            layer.mix_norm.apply(&mut mixed, &x);
            layer.widen.multiply(&mixed, &mut wide);
            layer.gelu.apply(&mut wide);
            layer.narrow.multiply(&wide, &mut x);
            layer.narrow_norm.apply(&mut x, &mixed);
        }
        x
    }

    /// What stands for each token and its place, normalised: `[tokens, hidden]`.
    fn embed(&self, sentences: &[Vec<u32>]) -> Vec<f32> {
        let span = |at: usize| at * self.hidden..(at + 1) * self.hidden;
        let mut x = Vec::new();
        for ids in sentences {
            for (place, id) in ids.iter().enumerate() {
                let (word, at) = (&self.words[span(*id as usize)], &self.positions[span(place)]);
                x.extend(word.iter().zip(at).map(|(word, at)| word + at));
            }
        }
        self.first_norm.apply(&mut x);
        x
    }
}

fn flat(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.flatten_all()?.to_vec1()?)
}

/// Tensors by name, with their shapes checked.
struct Source<'a> {
    path: &'a Path,
    tensors: SafeTensors<'a>,
}

impl Source<'_> {
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let view = self
            .tensors
            .tensor(name)
            .or_else(|_| self.tensors.tensor(&format!("bert.{name}")))
            .map_err(|_| self.unsuitable(format!("it has no tensor `{name}`")))?;
        if view.shape() != shape {
            let why = format!("`{name}` has shape {:?} instead of {shape:?}", view.shape());
            return Err(self.unsuitable(why));
        }
        let tensor = match view.dtype() {
            safetensors::Dtype::F32 => {
                Tensor::from_raw_buffer(view.data(), DType::F32, shape, &Device::Cpu)?
            }
            safetensors::Dtype::F16 => {
                Tensor::from_raw_buffer(view.data(), DType::F16, shape, &Device::Cpu)?
            }
            safetensors::Dtype::BF16 => {
                Tensor::from_raw_buffer(view.data(), DType::BF16, shape, &Device::Cpu)?
            }
            other => return Err(self.unsuitable(format!("`{name}` is of type {other:?}"))),
        };
        Ok(tensor.to_dtype(DType::F32)?)
    }

    /// Linear maps side by side, turned so that rows times them is a plain product.
    fn map(&self, names: &[String], outputs: usize, inputs: usize) -> Result<PackedMap> {
        let stored = |name| self.tensor(&format!("{name}.weight"), &[outputs, inputs]);
        let stored: Vec<Tensor> = names.iter().map(stored).collect::<Result<_>>()?;
        let turned = flat(&Tensor::cat(&stored, 0)?.t()?.contiguous()?)?;
        Ok(PackedMap::new(&turned, inputs, names.len() * outputs))
    }

    fn values(&self, name: &str, length: usize) -> Result<Vec<f32>> {
        Ok(self.tensor(name, &[length])?.to_vec1()?)
    }

    fn norm(&self, name: &str, config: &Config) -> Result<Norm> {
        Ok(Norm {
            gain: self.values(&format!("{name}.weight"), config.hidden)?,
            offset: self.values(&format!("{name}.bias"), config.hidden)?,
            epsilon: config.norm_epsilon,
        })
    }

    /// However many rows there are.
    fn first_row(&self, name: &str, width: usize) -> Result<Tensor> {
        let found = |name: &str| self.tensors.tensor(name).map(|view| view.shape().to_vec());
        let shape = found(name).or_else(|_| found(&format!("bert.{name}"))).unwrap_or_default();
        let rows = shape.first().copied().unwrap_or(1);
        Ok(self.tensor(name, &[rows, width])?.narrow(0, 0, 1)?)
    }

    fn unsuitable(&self, why: String) -> EmbeddingError {
        EmbeddingError::Unsuitable { path: self.path.to_owned(), why }
    }
}
