//! Text to token ids and back.

pub(crate) mod gguf;
mod stream;

use std::path::Path;

use candle_core::quantized::gguf_file::Content;
use tokenizers::{AddedToken, models::bpe, pre_tokenizers::byte_level::ByteLevel};
use understudy_ident::Digest;

pub use stream::TokenStream;

use crate::{
    config::hf::eos_ids,
    error::{ModelError, Result, refuse},
};

/// A model's vocabulary and the ids at which it stops.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    eos: Vec<u32>,
    bos: Option<u32>,
    digest: String,
}

impl Tokenizer {
    /// Reads `tokenizer.json` and the end-of-sequence ids of the configs beside it.
    pub fn from_directory(directory: &Path) -> Result<Self> {
        let path = directory.join("tokenizer.json");
        let bytes = std::fs::read(&path)
            .map_err(|source| ModelError::Read { path: path.clone(), source })?;
        let inner = tokenizers::Tokenizer::from_bytes(&bytes)
            .map_err(|error| refuse!(Tokenizer, "{} is not readable: {error}", path.display()))?;
        let mut eos = Vec::new();
        for name in ["generation_config.json", "config.json"] {
            let text = std::fs::read_to_string(directory.join(name)).unwrap_or_default();
            eos.extend(eos_ids(&text));
        }
        Self::new(inner, eos, None)
    }

    /// Rebuilds the tokenizer a GGUF file describes.
    pub fn from_gguf(content: &Content) -> Result<Self> {
        let parts = gguf::parts(content)?;
        Self::new(parts.tokenizer, parts.eos, parts.bos)
    }

    /// One token per byte (ids 0 to 255), then the two turn markers: for tiny test models.
    pub fn byte_level() -> Result<Self> {
        let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
        alphabet.sort_unstable();
        let vocab: bpe::Vocab =
            alphabet.iter().zip(0..).map(|(byte, id)| (byte.to_string(), id)).collect();
        let model = bpe::BPE::builder()
            .vocab_and_merges(vocab, Vec::new())
            .build()
            .map_err(|error| refuse!(Tokenizer, "the byte vocabulary did not build: {error}"))?;
        let mut inner = tokenizers::Tokenizer::new(model);
        inner.with_pre_tokenizer(Some(ByteLevel::new(false, true, false)));
        inner.with_decoder(Some(ByteLevel::default()));
        let markers = ["<|im_start|>", "<|im_end|>"].map(|text| AddedToken::from(text, true));
        inner
            .add_special_tokens(markers)
            .map_err(|error| refuse!(Tokenizer, "the turn markers did not register: {error}"))?;
        let end = inner.token_to_id("<|im_end|>");
        Self::new(inner, end.into_iter().collect(), None)
    }

    fn new(inner: tokenizers::Tokenizer, eos: Vec<u32>, bos: Option<u32>) -> Result<Self> {
        let mut inner = inner;
        // Neither truncation nor padding may change what a caller asked to encode.
        inner
            .with_truncation(None)
            .map_err(|error| refuse!(Tokenizer, "could not switch truncation off: {error}"))?;
        inner.with_padding(None);
        let mut eos = eos;
        let known = ["<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>", "</s>"];
        if eos.is_empty() {
            eos.extend(known.iter().filter_map(|text| inner.token_to_id(text)));
        } else if let Some(end) = inner.token_to_id("<|im_end|>") {
            eos.push(end);
        }
        eos.sort_unstable();
        eos.dedup();
        let text = inner
            .to_string(false)
            .map_err(|error| refuse!(Tokenizer, "it does not serialise: {error}"))?;
        let digest = Digest::of(text.as_bytes()).to_hex();
        Ok(Self { inner, eos, bos, digest })
    }

    /// The ids at which a reply ends.
    pub fn eos_ids(&self) -> &[u32] {
        &self.eos
    }

    /// The text of a `tokenizer.json`.
    pub(crate) fn to_json(&self) -> Result<String> {
        let text = self.inner.to_string(true);
        text.map_err(|error| refuse!(Tokenizer, "it does not serialise: {error}"))
    }

    /// The ids of exactly this text. Markers such as `<|im_end|>` in it become their special ids,
    /// as a rendered template needs; nothing is added.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(|error| refuse!(Tokenizer, "text did not encode: {error}"))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of ids, special markers included.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.decode_with(ids, false)
    }

    /// The text of ids without special markers, as a user sees it.
    pub fn decode_text(&self, ids: &[u32]) -> Result<String> {
        self.decode_with(ids, true)
    }

    fn decode_with(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        self.inner
            .decode(ids, skip_special)
            .map_err(|error| refuse!(Tokenizer, "ids did not decode: {error}"))
    }

    /// Decodes a growing completion piece by piece.
    pub fn stream(&self) -> TokenStream<'_> {
        TokenStream::new(self)
    }

    /// The id of a token's exact text, such as `<|im_end|>`.
    pub fn token_id(&self, text: &str) -> Option<u32> {
        self.inner.token_to_id(text)
    }

    /// The text a token is listed under, before byte decoding.
    pub fn token_text(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Ids at which generation ends, ascending.
    pub fn eos(&self) -> &[u32] {
        &self.eos
    }

    pub fn is_eos(&self, id: u32) -> bool {
        self.eos.contains(&id)
    }

    /// The beginning-of-sequence id, where the model has one.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// Digest of the whole tokenizer as its canonical JSON.
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

#[cfg(test)]
mod tests;
