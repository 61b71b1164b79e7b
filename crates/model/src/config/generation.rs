//! `generation_config.json`: how a model's makers suggest to draw from it.

use std::{io::ErrorKind, path::Path};

use serde::Deserialize;
use understudy_inference::SamplingDefaults;

use crate::error::{ModelError, Result, refuse};

const FILE: &str = "generation_config.json";

/// What vLLM reads of it too; `do_sample`, beams and the rest are left alone.
#[derive(Deserialize)]
struct Raw {
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<i64>,
    min_p: Option<f32>,
    repetition_penalty: Option<f32>,
    max_new_tokens: Option<u32>,
}

/// What the file beside a model's weights suggests; nothing where there is none, as beside GGUF.
pub fn sampling_defaults(base: &Path) -> Result<SamplingDefaults> {
    let path = base.join(FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => read(&text),
        Err(why) if matches!(why.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(SamplingDefaults::default())
        }
        Err(source) => Err(ModelError::Read { path, source }),
    }
}

fn read(text: &str) -> Result<SamplingDefaults> {
    let raw: Raw = serde_json::from_str(text)
        .map_err(|why| refuse!(Config, "{FILE} is not readable: {why}"))?;
    let top_k = match raw.top_k {
        None => None,
        // -1 is off, as it is in requests.
        Some(-1) => Some(0),
        Some(count) => Some(
            u32::try_from(count).map_err(|_| refuse!(Config, "{FILE}: top_k cannot be {count}"))?,
        ),
    };
    let defaults = SamplingDefaults {
        temperature: raw.temperature,
        top_p: raw.top_p,
        top_k,
        min_p: raw.min_p,
        repetition_penalty: raw.repetition_penalty,
        max_tokens: raw.max_new_tokens,
    };
    defaults.validate().map_err(|why| refuse!(Config, "{FILE}: {why}"))?;
    Ok(defaults)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_qwen_ships_is_read_and_the_rest_left_alone() {
        let text = r#"{"bos_token_id": 151643, "do_sample": true, "eos_token_id": [151645, 151643],
            "temperature": 0.6, "top_k": 20, "top_p": 0.95, "min_p": null}"#;
        let expected = SamplingDefaults {
            temperature: Some(0.6),
            top_k: Some(20),
            top_p: Some(0.95),
            ..SamplingDefaults::default()
        };
        assert_eq!(read(text).unwrap(), expected);
        let text = r#"{"top_k": -1, "max_new_tokens": 2048, "repetition_penalty": 1.1}"#;
        let expected = SamplingDefaults {
            top_k: Some(0),
            max_tokens: Some(2048),
            repetition_penalty: Some(1.1),
            ..SamplingDefaults::default()
        };
        assert_eq!(read(text).unwrap(), expected);
    }

    #[test]
    fn no_file_suggests_nothing_and_a_wrong_one_is_named() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(sampling_defaults(root.path()).unwrap(), SamplingDefaults::default());
        let gguf = root.path().join("model.gguf");
        std::fs::write(&gguf, "").unwrap();
        assert_eq!(sampling_defaults(&gguf).unwrap(), SamplingDefaults::default());
        for (text, named) in
            [("{", FILE), (r#"{"top_p": 7}"#, "top_p"), (r#"{"top_k": -3}"#, "top_k")]
        {
            std::fs::write(root.path().join(FILE), text).unwrap();
            let why = sampling_defaults(root.path()).unwrap_err().to_string();
            assert!(why.contains(named), "{why}");
        }
    }
}
