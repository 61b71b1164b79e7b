//! The shape of an encoder, as `config.json` gives it; what differs in kind is refused.

use serde::Deserialize;

/// Sizes of a BERT encoder.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Config {
    pub(crate) hidden: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) intermediate: usize,
    pub(crate) vocabulary: usize,
    /// How many positions were trained.
    pub(crate) positions: usize,
    pub(crate) norm_epsilon: f32,
}

#[derive(Deserialize)]
struct Raw {
    model_type: String,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    vocab_size: usize,
    max_position_embeddings: usize,
    #[serde(default = "usual_epsilon")]
    layer_norm_eps: f32,
    #[serde(default = "usual_activation")]
    hidden_act: String,
    #[serde(default = "usual_positions")]
    position_embedding_type: String,
}

/// `1_Pooling/config.json` of sentence-transformers; newer ones name the mode instead.
#[derive(Deserialize)]
struct RawPooling {
    pooling_mode_mean_tokens: Option<bool>,
    pooling_mode: Option<String>,
}

fn usual_epsilon() -> f32 {
    1e-12
}

fn usual_activation() -> String {
    "gelu".to_owned()
}

fn usual_positions() -> String {
    "absolute".to_owned()
}

impl Config {
    pub(crate) fn parse(json: &[u8]) -> Result<Self, String> {
        let raw: Raw = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let is = |key: &str, found: &str, wanted: &str| {
            let why = format!("`{key}` is `{found}`; only `{wanted}` is supported");
            if found == wanted { Ok(()) } else { Err(why) }
        };
        is("model_type", &raw.model_type, "bert")?;
        is("hidden_act", &raw.hidden_act, "gelu")?;
        is("position_embedding_type", &raw.position_embedding_type, "absolute")?;
        let sizes = [raw.hidden_size, raw.num_attention_heads, raw.max_position_embeddings];
        if sizes.contains(&0) || !raw.hidden_size.is_multiple_of(raw.num_attention_heads) {
            return Err(format!(
                "{} hidden units do not divide among {} heads",
                raw.hidden_size, raw.num_attention_heads
            ));
        }
        Ok(Self {
            hidden: raw.hidden_size,
            layers: raw.num_hidden_layers,
            heads: raw.num_attention_heads,
            intermediate: raw.intermediate_size,
            vocabulary: raw.vocab_size,
            positions: raw.max_position_embeddings,
            norm_epsilon: raw.layer_norm_eps,
        })
    }
}

/// Refuses a pooling other than the mean over all tokens.
pub(crate) fn check_pooling(json: &[u8]) -> Result<(), String> {
    let raw: RawPooling = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let other: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let also = other.iter().find(|(key, value)| {
        key.starts_with("pooling_mode_")
            && *key != "pooling_mode_mean_tokens"
            && **value == serde_json::Value::Bool(true)
    });
    let mean = match raw.pooling_mode {
        Some(mode) => mode == "mean",
        None => raw.pooling_mode_mean_tokens.unwrap_or(false),
    };
    match also {
        Some((key, _)) => Err(format!("it pools with `{key}`; only the mean is supported")),
        None if !mean => Err("it does not pool by the mean, which alone is supported".to_owned()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TINY: &str = r#"{"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 4, "intermediate_size": 64, "vocab_size": 100,
        "max_position_embeddings": 64}"#;

    #[test]
    fn what_runs_otherwise_is_refused_by_name() {
        assert_eq!(Config::parse(TINY.as_bytes()).unwrap().heads, 4);
        for (from, to, why) in [
            ("\"bert\"", "\"roberta\"", "`model_type` is `roberta`"),
            (
                "\"vocab_size\"",
                "\"hidden_act\": \"relu\", \"vocab_size\"",
                "`hidden_act` is `relu`",
            ),
            (
                "\"vocab_size\"",
                "\"position_embedding_type\": \"relative_key\", \"vocab_size\"",
                "`position_embedding_type`",
            ),
            ("\"num_attention_heads\": 4", "\"num_attention_heads\": 5", "do not divide"),
            ("\"num_attention_heads\": 4", "\"num_attention_heads\": 0", "do not divide"),
            ("\"hidden_size\": 32,", "", "missing field `hidden_size`"),
        ] {
            let error = Config::parse(TINY.replace(from, to).as_bytes()).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn only_the_mean_is_pooled() {
        let mean = r#"{"pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true}"#;
        check_pooling(mean.as_bytes()).unwrap();
        check_pooling(br#"{"pooling_mode": "mean"}"#).unwrap();
        for (json, why) in [
            (r#"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}"#, "cls_token"),
            (r#"{"pooling_mode_max_tokens": true, "pooling_mode_mean_tokens": true}"#, "max_token"),
            (r#"{"pooling_mode": "cls"}"#, "does not pool by the mean"),
            ("{}", "does not pool by the mean"),
        ] {
            let error = check_pooling(json.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
