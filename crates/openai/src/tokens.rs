//! vLLM's `POST /tokenize` and `POST /detokenize`.

use serde_json::{Value, json};
use understudy_inference::Prompt;

use crate::{chat, error::RequestError, fields::Fields, tools::Tools};

/// A text or a conversation to be counted.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenizeBody {
    pub model: Option<String>,
    pub prompt: Prompt,
    /// Also say each token's text.
    pub texts: bool,
}

impl TokenizeBody {
    pub fn parse(body: &[u8]) -> Result<Self, RequestError> {
        let fields = Fields::parse(body)?;
        // The tokenizers served here add nothing of their own, so both answers are the same.
        fields.flag_or_none("add_special_tokens")?;
        let prompt = match (fields.text("prompt")?, fields.list("messages")?) {
            (Some(_), Some(_)) => {
                return Err(fields.wrong("prompt", "cannot be combined with `messages`"));
            }
            (Some(text), None) => Prompt::Text(text),
            (None, Some(_)) => {
                let tools = Tools::read(&fields)?;
                Prompt::Chat(Box::new(chat::chat(&fields, tools.shown)?))
            }
            (None, None) => return Err(fields.missing("prompt")),
        };
        let texts = fields.flag("return_token_strs")?;
        Ok(Self { model: fields.text("model")?, prompt, texts })
    }
}

/// Ids to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetokenizeBody {
    pub model: Option<String>,
    pub tokens: Vec<u32>,
}

impl DetokenizeBody {
    pub fn parse(body: &[u8]) -> Result<Self, RequestError> {
        let fields = Fields::parse(body)?;
        let tokens = fields.ids("tokens")?.ok_or_else(|| fields.missing("tokens"))?;
        Ok(Self { model: fields.text("model")?, tokens })
    }
}

pub fn tokenized(tokens: &[u32], context: usize, texts: Option<Vec<String>>) -> Value {
    json!({
        "count": tokens.len(), "max_model_len": context, "tokens": tokens, "token_strs": texts,
    })
}

pub fn detokenized(text: &str) -> Value {
    json!({ "prompt": text })
}
