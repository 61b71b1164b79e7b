//! `config.json` as transformers writes it, both before version 5 (`rope_theta` at the top) and
//! since (`rope_parameters`).

use serde::Deserialize;
use serde_json::Value;

use super::{Family, ModelConfig, RopeScaling};
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
    rope_parameters: Option<Rotation>,
    rope_scaling: Option<Rotation>,
    max_position_embeddings: Option<usize>,
    tie_word_embeddings: Option<bool>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    use_sliding_window: Option<bool>,
    hidden_act: Option<String>,
}

#[derive(Deserialize)]
struct Rotation {
    rope_theta: Option<f32>,
    #[serde(alias = "type")]
    rope_type: Option<String>,
    factor: Option<f32>,
    low_freq_factor: Option<f32>,
    high_freq_factor: Option<f32>,
    original_max_position_embeddings: Option<usize>,
}

impl Rotation {
    /// Refuses by name what would be turned otherwise than it was trained to be.
    fn scaling(&self) -> Result<Option<RopeScaling>> {
        let kind = self.rope_type.as_deref().unwrap_or("default");
        let need = |name: &str, value: Option<f32>| {
            value.ok_or_else(|| refuse!(Config, "rope scaling of type {kind} lacks {name}"))
        };
        match kind {
            "default" => Ok(None),
            "llama3" => Ok(Some(RopeScaling::Llama3 {
                factor: need("factor", self.factor)?,
                low: need("low_freq_factor", self.low_freq_factor)?,
                high: need("high_freq_factor", self.high_freq_factor)?,
                original: self.original_max_position_embeddings.ok_or_else(|| {
                    refuse!(
                        Config,
                        "rope scaling of type {kind} lacks original_max_position_embeddings"
                    )
                })?,
            })),
            _ => Err(refuse!(Config, "rope scaling of type {kind} is not supported; llama3 is")),
        }
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
            rope_scaling: raw.rope_scaling()?,
            max_positions: raw.max_position_embeddings.unwrap_or(2048),
            tied_head: raw.tie_word_embeddings.unwrap_or(false),
            qkv_bias: family == Family::Qwen2,
            qk_norm: family == Family::Qwen3,
        }
        .checked()
    }
}

impl Raw {
    fn rope_scaling(&self) -> Result<Option<RopeScaling>> {
        for rope in [&self.rope_parameters, &self.rope_scaling].into_iter().flatten() {
            if let Some(scaling) = rope.scaling()? {
                return Ok(Some(scaling));
            }
        }
        Ok(None)
    }

    fn refuse_unsupported(&self, family: Family) -> Result<()> {
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(more: Value) -> Result<ModelConfig> {
        let mut config = json!({
            "model_type": "llama", "vocab_size": 260, "hidden_size": 64, "intermediate_size": 64,
            "num_hidden_layers": 1, "num_attention_heads": 4,
        });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ModelConfig::from_hf(&config.to_string())
    }

    #[test]
    fn the_rotation_of_llama3_is_read_as_both_generations_of_transformers_write_it() {
        let mut rope = json!({"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 8192});
        let expected = RopeScaling::Llama3 { factor: 32.0, low: 1.0, high: 4.0, original: 8192 };
        let before = read(json!({"rope_theta": 500_000.0, "rope_scaling": rope})).unwrap();
        assert_eq!(before.rope_scaling.as_ref(), Some(&expected));
        rope["rope_theta"] = json!(500_000.0);
        assert_eq!(read(json!({"rope_parameters": rope})).unwrap(), before);
        assert_ne!(
            before.frequencies(),
            read(json!({"rope_theta": 500_000.0})).unwrap().frequencies()
        );
    }

    #[test]
    fn other_rotations_and_incomplete_ones_are_refused_by_name() {
        assert_eq!(read(json!({"rope_scaling": {"type": "default"}})).unwrap().rope_scaling, None);
        for (rope, named) in [
            (json!({"type": "linear", "factor": 2.0}), "linear"),
            (json!({"rope_type": "yarn", "factor": 4.0}), "yarn"),
            (json!({"rope_type": "llama3", "factor": 8.0}), "low_freq_factor"),
            (
                json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0,
                    "high_freq_factor": 1.0, "original_max_position_embeddings": 32}),
                "low: 4.0",
            ),
        ] {
            let why = read(json!({"rope_scaling": rope})).unwrap_err().to_string();
            assert!(why.contains(named), "{why}");
        }
    }
}
