//! The tokenizer inside a GGUF file.

use candle_core::quantized::{
    gguf_file::{Content, Value},
    tokenizer::TokenizerFromGguf as _,
};
use tokenizers::pre_tokenizers::{byte_level::ByteLevel, digits::Digits, sequence::Sequence};

use crate::{
    config::gguf::{number, text},
    error::{Result, refuse},
};

pub(super) struct Parts {
    pub(super) tokenizer: tokenizers::Tokenizer,
    pub(super) eos: Vec<u32>,
    pub(super) bos: Option<u32>,
}

pub(super) fn parts(content: &Content) -> Result<Parts> {
    let mut tokenizer = tokenizers::Tokenizer::from_gguf(content)
        .map_err(|error| refuse!(Tokenizer, "the GGUF tokenizer is not usable: {error}"))?;
    match text(content, "tokenizer.ggml.pre") {
        // candle does not know this one and would insert a space at every text's start.
        Some("smollm") => {
            let steps = vec![Digits::new(true).into(), ByteLevel::new(false, true, true).into()];
            tokenizer.with_pre_tokenizer(Some(Sequence::new(steps)));
        }
        Some("qwen2" | "llama-bpe" | "llama3" | "smaug-bpe") => {}
        other => {
            let name = other.unwrap_or("(none)");
            return Err(refuse!(Tokenizer, "GGUF pre-tokenizer {name} is not supported"));
        }
    }
    // Templates write the beginning-of-sequence token themselves; adding it again would double it.
    tokenizer.with_post_processor(None::<ByteLevel>);
    let id = |key: &str| number(content, key).and_then(|id| u32::try_from(id).ok());
    let eos = ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"];
    Ok(Parts {
        tokenizer,
        eos: eos.into_iter().filter_map(id).collect(),
        bos: id("tokenizer.ggml.bos_token_id"),
    })
}

/// The chat template stored beside the vocabulary.
pub(crate) fn chat_template(content: &Content) -> Option<String> {
    text(content, "tokenizer.chat_template").map(str::to_owned)
}

/// The text of a special token such as `tokenizer.ggml.bos_token_id`.
pub(crate) fn special_text(content: &Content, key: &str) -> Option<String> {
    let Value::Array(tokens) = content.metadata.get("tokenizer.ggml.tokens")? else { return None };
    match tokens.get(number(content, key)?)? {
        Value::String(text) => Some(text.clone()),
        _ => None,
    }
}
