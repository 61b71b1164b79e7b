//! Tensors from a GGUF file, dequantised and put back into Hugging Face order.

use std::{
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
};

use candle_core::{Device, quantized::gguf_file::Content};

use super::{TensorSource, wrong_shape};
use crate::{
    config::{Family, ModelConfig},
    error::{ModelError, Result},
};

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
        let config = ModelConfig::from_gguf(&content)?;
        Ok((Self { content, reader, config: config.clone() }, config))
    }

    pub(crate) fn content(&self) -> &Content {
        &self.content
    }
}

impl TensorSource for GgufSource {
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
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
        let quantised = self.content.tensor(&mut self.reader, &key, &Device::Cpu)?;
        let values = quantised.dequantize(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>()?;
        // Only llama files are reordered for interleaved rotation; Qwen files keep their order.
        let heads = match (self.config.family, name.rsplit_once(".self_attn.")) {
            (Family::Llama, Some((_, "q_proj.weight"))) => self.config.heads,
            (Family::Llama, Some((_, "k_proj.weight"))) => self.config.kv_heads,
            _ => return Ok(values),
        };
        let inputs = shape.last().copied().unwrap_or(1);
        Ok(half_split_rows(&values, heads, self.config.head_dim, inputs))
    }
}

/// Undoes the row order llama.cpp gives q and k: there, rotated pairs are neighbours (2i, 2i+1);
/// in Hugging Face order, which adapters assume, they are half a head apart (i, i + d/2).
fn half_split_rows(values: &[f32], heads: usize, head_dim: usize, inputs: usize) -> Vec<f32> {
    let half = head_dim / 2;
    let mut out = Vec::with_capacity(values.len());
    for head in 0..heads {
        for side in 0..2 {
            for pair in 0..half {
                let row = head * head_dim + 2 * pair + side;
                out.extend_from_slice(&values[row * inputs..(row + 1) * inputs]);
            }
        }
    }
    out
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
    use super::*;

    #[test]
    fn names_translate_and_unknown_ones_do_not() {
        let name = gguf_name("model.layers.3.mlp.up_proj.weight");
        assert_eq!(name.as_deref(), Some("blk.3.ffn_up.weight"));
        assert_eq!(gguf_name("model.layers.0.self_attn.rotary.inv_freq"), None);
    }

    #[test]
    fn interleaved_rows_come_back_half_split() {
        // One head of four rows with one input each; llama.cpp writes rows 0 2 1 3 of the original.
        assert_eq!(half_split_rows(&[0.0, 2.0, 1.0, 3.0], 1, 4, 1), [0.0, 1.0, 2.0, 3.0]);
        let two_heads = [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0];
        assert_eq!(half_split_rows(&two_heads, 2, 4, 1), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
    }
}
