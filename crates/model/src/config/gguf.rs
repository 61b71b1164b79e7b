//! The same shape from GGUF metadata.

use candle_core::quantized::gguf_file::{Content, Value};

use super::{Family, ModelConfig};
use crate::error::{Result, refuse};

impl ModelConfig {
    /// Reads the metadata of a GGUF file.
    pub(crate) fn from_gguf(content: &Content) -> Result<Self> {
        let name = text(content, "general.architecture")
            .ok_or_else(|| refuse!(Config, "the GGUF file does not name its architecture"))?;
        let family = match name {
            "llama" => Family::Llama,
            "qwen2" => Family::Qwen2,
            "qwen3" => Family::Qwen3,
            other => {
                let known = "llama, qwen2 and qwen3";
                return Err(refuse!(
                    Config,
                    "GGUF architecture {other} is not supported; {known} are"
                ));
            }
        };
        let key = |suffix: &str| format!("{name}.{suffix}");
        let scaling = text(content, &key("rope.scaling.type")).unwrap_or("none");
        if scaling != "none" {
            return Err(refuse!(Config, "rope scaling of type {scaling} is not supported"));
        }
        let need = |suffix: &str| {
            number(content, &key(suffix))
                .ok_or_else(|| refuse!(Config, "the GGUF file lacks {}", key(suffix)))
        };
        let hidden = need("embedding_length")?;
        let heads = need("attention.head_count")?;
        let vocab = content
            .tensor_infos
            .get("token_embd.weight")
            .and_then(|info| info.shape.dims().first().copied())
            .ok_or_else(|| refuse!(Config, "the GGUF file lacks token_embd.weight"))?;
        let head_dim =
            number(content, &key("attention.key_length")).unwrap_or(hidden / heads.max(1));
        if number(content, &key("rope.dimension_count")).is_some_and(|width| width != head_dim) {
            return Err(refuse!(Config, "rotating only part of each head is not supported"));
        }
        Self {
            family,
            vocab,
            hidden,
            intermediate: need("feed_forward_length")?,
            layers: need("block_count")?,
            heads,
            kv_heads: number(content, &key("attention.head_count_kv")).unwrap_or(heads),
            head_dim,
            norm_eps: float(content, &key("attention.layer_norm_rms_epsilon")).unwrap_or(1e-5),
            rope_theta: float(content, &key("rope.freq_base")).unwrap_or(10_000.0),
            // A tensor, which the metadata does not hold.
            rope_scaling: None,
            max_positions: number(content, &key("context_length")).unwrap_or(2048),
            tied_head: !content.tensor_infos.contains_key("output.weight"),
            qkv_bias: family == Family::Qwen2,
            qk_norm: family == Family::Qwen3,
        }
        .checked()
    }
}

pub(crate) fn text<'a>(content: &'a Content, key: &str) -> Option<&'a str> {
    match content.metadata.get(key) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

pub(crate) fn number(content: &Content, key: &str) -> Option<usize> {
    let value = match content.metadata.get(key)? {
        Value::U8(value) => u64::from(*value),
        Value::U16(value) => u64::from(*value),
        Value::U32(value) => u64::from(*value),
        Value::U64(value) => *value,
        Value::I32(value) => u64::try_from(*value).ok()?,
        Value::I64(value) => u64::try_from(*value).ok()?,
        _ => return None,
    };
    usize::try_from(value).ok()
}

fn float(content: &Content, key: &str) -> Option<f32> {
    match content.metadata.get(key)? {
        Value::F32(value) => Some(*value),
        Value::F64(value) => Some(*value as f32),
        _ => None,
    }
}
