//! BERT's encoder over flat rows: sentences lie behind one another, and nothing is padded.
//!
//! Source: Devlin et al., "BERT" (2019); names of tensors as in Hugging Face's `BertModel`.

use std::{ops::Range, path::Path};

use candle_core::{DType, Device, Tensor};
use safetensors::SafeTensors;

use crate::{
    config::Config,
    error::{EmbeddingError, Result},
    fused::{BiasGelu, Norm, ResidualNorm, ScaledSoftmax},
};

/// The weights of an encoder.
#[derive(Debug)]
pub(crate) struct Bert {
    /// `[vocabulary, hidden]`.
    words: Tensor,
    /// `[positions, hidden]`, with the first segment's vector added: there is only one segment.
    positions: Tensor,
    first_norm: Norm,
    layers: Vec<Layer>,
    heads: usize,
    head_width: usize,
}

#[derive(Debug)]
struct Layer {
    /// Queries, keys and values side by side: `[hidden, 3·hidden]` and `[3·hidden]`.
    attend: Tensor,
    attend_bias: Tensor,
    /// `[hidden, hidden]`; its bias is added where the result is normalised.
    mix: Tensor,
    mix_norm: ResidualNorm,
    /// `[hidden, intermediate]`.
    widen: Tensor,
    gelu: BiasGelu,
    /// `[intermediate, hidden]`.
    narrow: Tensor,
    narrow_norm: ResidualNorm,
}

/// Sentences of one length that lie behind one another.
#[derive(Debug, Clone, Copy)]
struct Run {
    first_row: usize,
    sentences: usize,
    length: usize,
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
            let (mut maps, mut biases) = (Vec::new(), Vec::new());
            for part in ["query", "key", "value"] {
                let part = name(&format!("attention.self.{part}"));
                maps.push(source.map(&part, hidden, hidden)?);
                biases.push(source.tensor(&format!("{part}.bias"), &[hidden])?);
            }
            let norm = |dense: &str, norm: &str| -> Result<ResidualNorm> {
                let bias = source.values(&format!("{}.bias", name(dense)), hidden)?;
                Ok(ResidualNorm { bias, norm: source.norm(&name(norm), config)? })
            };
            Ok(Layer {
                attend: Tensor::cat(&maps, 1)?,
                attend_bias: Tensor::cat(&biases, 0)?,
                mix: source.map(&name("attention.output.dense"), hidden, hidden)?,
                mix_norm: norm("attention.output.dense", "attention.output.LayerNorm")?,
                widen: source.map(&name("intermediate.dense"), wide, hidden)?,
                gelu: BiasGelu(source.values(&name("intermediate.dense.bias"), wide)?),
                narrow: source.map(&name("output.dense"), hidden, wide)?,
                narrow_norm: norm("output.dense", "output.LayerNorm")?,
            })
        };
        let positions =
            source.tensor("embeddings.position_embeddings.weight", &[config.positions, hidden])?;
        let segment = source.first_row("embeddings.token_type_embeddings.weight", hidden)?;
        Ok(Self {
            words: source
                .tensor("embeddings.word_embeddings.weight", &[config.vocabulary, hidden])?,
            positions: positions.broadcast_add(&segment)?,
            first_norm: source.norm("embeddings.LayerNorm", config)?,
            layers: (0..config.layers).map(layer).collect::<Result<_>>()?,
            heads: config.heads,
            head_width: hidden / config.heads,
        })
    }

    /// The last layer's vector of every token, `[tokens, hidden]` row by row. Sentences of one
    /// length should be neighbours: their attention is computed together.
    pub(crate) fn forward(&self, sentences: &[&[u32]]) -> Result<Vec<f32>> {
        let ids: Vec<u32> = sentences.iter().flat_map(|ids| ids.iter().copied()).collect();
        let places: Vec<u32> = sentences.iter().flat_map(|ids| 0..ids.len() as u32).collect();
        let rows = ids.len();
        let (ids, places) = (
            Tensor::from_vec(ids, rows, &Device::Cpu)?,
            Tensor::from_vec(places, rows, &Device::Cpu)?,
        );
        let mut x =
            (self.words.index_select(&ids, 0)? + self.positions.index_select(&places, 0)?)?;
        x.inplace_op1(&self.first_norm)?;
        let runs = runs(sentences);
        for layer in &self.layers {
            let qkv = x.matmul(&layer.attend)?.broadcast_add(&layer.attend_bias)?;
            let mixed = self.attend(&qkv, &runs)?.matmul(&layer.mix)?;
            mixed.inplace_op2(&x, &layer.mix_norm)?;
            let wide = mixed.matmul(&layer.widen)?;
            wide.inplace_op1(&layer.gelu)?;
            x = wide.matmul(&layer.narrow)?;
            x.inplace_op2(&mixed, &layer.narrow_norm)?;
        }
        Ok(x.flatten_all()?.to_vec1()?)
    }

    /// softmax(QKᵀ/√d)·V within each sentence, `[tokens, hidden]`. Source: Vaswani et al.,
    /// "Attention Is All You Need" (2017).
    fn attend(&self, qkv: &Tensor, runs: &[Run]) -> Result<Tensor> {
        let (heads, width) = (self.heads, self.head_width);
        let mut parts = Vec::with_capacity(runs.len());
        for run in runs {
            let rows = run.sentences * run.length;
            let qkv = qkv.narrow(0, run.first_row, rows)?.reshape((
                run.sentences,
                run.length,
                3,
                heads,
                width,
            ))?;
            // Each `[sentences, heads, length, width]`.
            let part = |at: usize| -> candle_core::Result<Tensor> {
                qkv.narrow(2, at, 1)?.squeeze(2)?.transpose(1, 2)?.contiguous()
            };
            let (queries, keys, values) = (part(0)?, part(1)?, part(2)?);
            let scores = queries.matmul(&keys.transpose(2, 3)?)?;
            let scale = 1.0 / (width as f32).sqrt();
            scores.inplace_op1(&ScaledSoftmax { scale, width: run.length })?;
            let seen = scores.matmul(&values)?;
            parts.push(seen.transpose(1, 2)?.reshape((rows, heads * width))?);
        }
        match &parts[..] {
            [only] => Ok(only.clone()),
            _ => Ok(Tensor::cat(&parts, 0)?),
        }
    }
}

fn runs(sentences: &[&[u32]]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut row = 0;
    for ids in sentences {
        match runs.last_mut() {
            Some(run) if run.length == ids.len() => run.sentences += 1,
            _ => runs.push(Run { first_row: row, sentences: 1, length: ids.len() }),
        }
        row += ids.len();
    }
    runs
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

    /// A linear map, turned so that rows times it is a plain product: `[inputs, outputs]`.
    fn map(&self, name: &str, outputs: usize, inputs: usize) -> Result<Tensor> {
        let stored = self.tensor(&format!("{name}.weight"), &[outputs, inputs])?;
        Ok(stored.t()?.contiguous()?)
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
        let first: Range<usize> = 0..1;
        Ok(self.tensor(name, &[rows, width])?.narrow(0, first.start, first.len())?)
    }

    fn unsuitable(&self, why: String) -> EmbeddingError {
        EmbeddingError::Unsuitable { path: self.path.to_owned(), why }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_of_one_length_are_attended_together() {
        let (a, b, c) = ([1, 2], [3, 4], [5, 6, 7]);
        let found = runs(&[&a, &b, &c, &a]);
        let found: Vec<(usize, usize, usize)> =
            found.iter().map(|run| (run.first_row, run.sentences, run.length)).collect();
        assert_eq!(found, [(0, 2, 2), (4, 1, 3), (7, 1, 2)]);
    }
}
