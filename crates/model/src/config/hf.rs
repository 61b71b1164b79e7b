//! `config.json` as transformers writes it, both before version 5 (`rope_theta` at the top) and
//! since (`rope_parameters`).

use serde::Deserialize;
use serde_json::Value;

use super::{Family, ModelConfig};
use crate::error::{Result, refuse};

#[derive(Deserialize)]
struct Raw {
    model_type: String,
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    rms_norm_eps: Option<f32>,
    rope_theta: Option<f32>,
    rope_parameters: Option<Rope>,
    rope_scaling: Option<Rope>,
    max_position_embeddings: Option<usize>,
    tie_word_embeddings: Option<bool>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    use_sliding_window: Option<bool>,
    hidden_act: Option<String>,
}

#[derive(Deserialize)]
struct Rope {
    rope_theta: Option<f32>,
    #[serde(alias = "type")]
    rope_type: Option<String>,
}

impl Rope {
    fn is_plain(&self) -> bool {
        self.rope_type.as_deref().is_none_or(|kind| kind == "default")
    }
}

impl ModelConfig {
    /// Reads the text of a `config.json`.
    pub fn from_hf(text: &str) -> Result<Self> {
        let raw: Raw = serde_json::from_str(text)
            .map_err(|error| refuse!(Config, "config.json does not describe a decoder: {error}"))?;
        let family = match raw.model_type.as_str() {
            "llama" => Family::Llama,
            "qwen2" => Family::Qwen2,
            "qwen3" => Family::Qwen3,
            other => {
                let known = "llama, qwen2 and qwen3";
                return Err(refuse!(Config, "model_type {other} is not supported; {known} are"));
            }
        };
        raw.refuse_unsupported(family)?;
        let rope = raw.rope_parameters.as_ref().and_then(|rope| rope.rope_theta);
        Self {
            family,
            vocab: raw.vocab_size,
            hidden: raw.hidden_size,
            intermediate: raw.intermediate_size,
            layers: raw.num_hidden_layers,
            heads: raw.num_attention_heads,
            kv_heads: raw.num_key_value_heads.unwrap_or(raw.num_attention_heads),
            head_dim: raw
                .head_dim
                .unwrap_or_else(|| raw.hidden_size / raw.num_attention_heads.max(1)),
            norm_eps: raw.rms_norm_eps.unwrap_or(1e-6),
            rope_theta: rope.or(raw.rope_theta).unwrap_or(10_000.0),
            max_positions: raw.max_position_embeddings.unwrap_or(2048),
            tied_head: raw.tie_word_embeddings.unwrap_or(false),
            qkv_bias: family == Family::Qwen2,
            qk_norm: family == Family::Qwen3,
        }
        .checked()
    }
}

impl Raw {
    fn refuse_unsupported(&self, family: Family) -> Result<()> {
        for rope in [&self.rope_parameters, &self.rope_scaling].into_iter().flatten() {
            if !rope.is_plain() {
                let kind = rope.rope_type.as_deref().unwrap_or_default();
                return Err(refuse!(Config, "rope scaling of type {kind} is not supported"));
            }
        }
        let act = self.hidden_act.as_deref().unwrap_or("silu");
        if act != "silu" {
            return Err(refuse!(Config, "activation {act} is not supported; silu is"));
        }
        // Qwen2 always has a q/k/v bias and says nothing about it; the flag adds one to o too.
        if self.attention_bias == Some(true) && family != Family::Qwen2 {
            return Err(refuse!(Config, "attention_bias is not supported for this model_type"));
        }
        if self.mlp_bias == Some(true) {
            return Err(refuse!(Config, "mlp_bias is not supported"));
        }
        if self.use_sliding_window == Some(true) {
            return Err(refuse!(Config, "sliding window attention is not supported"));
        }
        Ok(())
    }
}

/// The end-of-sequence ids a `config.json` or `generation_config.json` names: one id or a list.
pub(crate) fn eos_ids(text: &str) -> Vec<u32> {
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    let as_id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value.get("eos_token_id") {
        Some(Value::Array(ids)) => ids.iter().filter_map(as_id).collect(),
        Some(id) => as_id(id).into_iter().collect(),
        None => Vec::new(),
    }
}
