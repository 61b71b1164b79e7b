//! Tensors from a GGUF file, dequantised and put back into Hugging Face order.

use std::{
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
};

use candle_core::{
    Device,
    quantized::{QTensor, gguf_file::Content},
};

use super::{TensorSource, wrong_shape};
use crate::{
    config::{Family, ModelConfig, RopeScaling},
    error::{ModelError, Result},
    kernels::int8::{Bits, QuantisedRows},
};

/// By how much each pair of a head turns slower, in files of Llama 3.1 and its like.
const ROPE_DIVISORS: &str = "rope_freqs.weight";

/// Reads one tensor at a time, so that never more than one exists both quantised and as f32.
pub(crate) struct GgufSource {
    content: Content,
    reader: BufReader<File>,
    config: ModelConfig,
}

impl GgufSource {
    pub(crate) fn open(path: &Path) -> Result<(Self, ModelConfig)> {
        let read = |source| ModelError::Read { path: PathBuf::from(path), source };
        let mut reader = BufReader::new(File::open(path).map_err(read)?);
        let content = Content::read(&mut reader)?;
        let mut config = ModelConfig::from_gguf(&content)?;
        if content.tensor_infos.contains_key(ROPE_DIVISORS) {
            let divisors = content.tensor(&mut reader, ROPE_DIVISORS, &Device::Cpu)?;
            let divisors = divisors.dequantize(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>()?;
            config.rope_scaling = Some(RopeScaling::Divisors(divisors));
            config = config.checked()?;
        }
        Ok((Self { content, reader, config: config.clone() }, config))
    }

    pub(crate) fn content(&self) -> &Content {
        &self.content
    }
}

impl GgufSource {
    fn quantised(&mut self, name: &str, shape: &[usize]) -> Result<QTensor> {
        let key = gguf_name(name).ok_or_else(|| ModelError::Weight {
            name: name.to_owned(),
            what: "has no GGUF name".to_owned(),
        })?;
        let info = self.content.tensor_infos.get(&key).ok_or_else(|| ModelError::Weight {
            name: key.clone(),
            what: "is missing from the file".to_owned(),
        })?;
        if info.shape.dims() != shape {
            return Err(wrong_shape(&key, info.shape.dims(), shape));
        }
        Ok(self.content.tensor(&mut self.reader, &key, &Device::Cpu)?)
    }

    /// Heads whose rows llama.cpp has reordered for interleaved rotation. Only llama files are;
    /// Qwen files keep their order.
    fn reordered_heads(&self, name: &str) -> Option<usize> {
        match (self.config.family, name.rsplit_once(".self_attn.")) {
            (Family::Llama, Some((_, "q_proj.weight"))) => Some(self.config.heads),
            (Family::Llama, Some((_, "k_proj.weight"))) => Some(self.config.kv_heads),
            _ => None,
        }
    }
}

impl TensorSource for GgufSource {
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let quantised = self.quantised(name, shape)?;
        let values = quantised.dequantize(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>()?;
        let Some(heads) = self.reordered_heads(name) else { return Ok(values) };
        let inputs = shape.last().copied().unwrap_or(1);
        let order = half_split(heads, self.config.head_dim);
        Ok(order.flat_map(|row| &values[row * inputs..(row + 1) * inputs]).copied().collect())
    }

    fn bits(&self, name: &str) -> Option<Bits> {
        let info = self.content.tensor_infos.get(&gguf_name(name)?)?;
        QuantisedRows::bits_of(info.ggml_dtype)
    }

    fn blocks(
        &mut self,
        name: &str,
        (rows, inputs): (usize, usize),
        bits: Bits,
    ) -> Result<QuantisedRows> {
        let quantised = self.quantised(name, &[rows, inputs])?;
        let dtype = quantised.dtype();
        let as_held = if QuantisedRows::bits_of(dtype) == Some(bits) {
            QuantisedRows::of_gguf(dtype, &quantised.data()?, (rows, inputs))
        } else {
            None
        };
        let Some(blocks) = as_held else {
            return Ok(QuantisedRows::round(&self.tensor(name, &[rows, inputs])?, inputs, bits));
        };
        Ok(match self.reordered_heads(name) {
            Some(heads) => blocks.reordered(half_split(heads, self.config.head_dim)),
            None => blocks,
        })
    }
}

/// The order that undoes what llama.cpp does to the rows of q and k: there, rotated pairs are
/// neighbours (2i, 2i+1); in Hugging Face order, which adapters assume, they are half a head apart
/// (i, i + d/2).
fn half_split(heads: usize, head_dim: usize) -> impl Iterator<Item = usize> + Clone {
    let half = head_dim / 2;
    (0..heads * head_dim).map(move |at| {
        let (head, side, pair) = (at / head_dim, at % head_dim / half, at % half);
        head * head_dim + 2 * pair + side
    })
}

/// The GGUF name of a Hugging Face tensor: `model.layers.3.mlp.up_proj.weight` is
/// `blk.3.ffn_up.weight`.
fn gguf_name(name: &str) -> Option<String> {
    let fixed = match name {
        "model.embed_tokens.weight" => Some("token_embd.weight"),
        "model.norm.weight" => Some("output_norm.weight"),
        "lm_head.weight" => Some("output.weight"),
        _ => None,
    };
    if let Some(fixed) = fixed {
        return Some(fixed.to_owned());
    }
    let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let (module, kind) = rest.rsplit_once('.')?;
    let module = match module {
        "input_layernorm" => "attn_norm",
        "post_attention_layernorm" => "ffn_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.o_proj" => "attn_output",
        "self_attn.q_norm" => "attn_q_norm",
        "self_attn.k_norm" => "attn_k_norm",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        _ => return None,
    };
    Some(format!("blk.{layer}.{module}.{kind}"))
}

#[cfg(test)]
mod tests {
    use candle_core::{
        Tensor,
        quantized::{GgmlDType, gguf_file},
    };

    use super::*;

    #[test]
    fn names_translate_and_unknown_ones_do_not() {
        let name = gguf_name("model.layers.3.mlp.up_proj.weight");
        assert_eq!(name.as_deref(), Some("blk.3.ffn_up.weight"));
        assert_eq!(gguf_name("model.layers.0.self_attn.rotary.inv_freq"), None);
    }

    #[test]
    fn a_file_of_llama3_brings_its_rotation() {
        let (number, tensor) = (gguf_file::Value::U32, |shape: &[usize], value: f32| {
            let tensor = Tensor::full(value, shape, &Device::Cpu).unwrap();
            QTensor::quantize(&tensor, GgmlDType::F32).unwrap()
        });
        let name = gguf_file::Value::String("llama".to_owned());
        let counts = [
            ("llama.embedding_length", number(16)),
            ("llama.attention.head_count", number(2)),
            ("llama.feed_forward_length", number(8)),
            ("llama.block_count", number(1)),
        ];
        let metadata: Vec<_> = [("general.architecture", &name)]
            .into_iter()
            .chain(counts.iter().map(|(key, value)| (*key, value)))
            .collect();
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("model.gguf");
        let config = |divisors: &QTensor| {
            let embeddings = tensor(&[32, 16], 0.0);
            let tensors = [("token_embd.weight", &embeddings), (ROPE_DIVISORS, divisors)];
            let mut file = File::create(&path).unwrap();
            gguf_file::write(&mut file, &metadata, &tensors).unwrap();
            GgufSource::open(&path).map(|(_, config)| config)
        };
        let config_of_eight = config(&tensor(&[4], 8.0)).unwrap();
        let plain = ModelConfig { rope_scaling: None, ..config_of_eight.clone() }.frequencies();
        let slower: Vec<f32> = plain.iter().map(|frequency| frequency / 8.0).collect();
        assert_eq!(config_of_eight.frequencies(), slower);
        let why = config(&tensor(&[3], 8.0)).unwrap_err().to_string();
        assert!(why.contains("rope scaling"), "{why}");
    }

    #[test]
    fn interleaved_rows_come_back_half_split() {
        // Of one head of four rows llama.cpp writes rows 0 2 1 3.
        assert_eq!(half_split(1, 4).collect::<Vec<_>>(), [0, 2, 1, 3]);
        assert_eq!(half_split(2, 4).collect::<Vec<_>>(), [0, 2, 1, 3, 4, 6, 5, 7]);
    }
}
