//! Text to token ids and back.

mod bytes;
pub(crate) mod gguf;
mod markers;
mod stream;

use std::{
    path::Path,
    sync::{Arc, OnceLock},
};

use candle_core::quantized::gguf_file::Content;
use serde_json::Value;
use tokenizers::{AddedToken, models::bpe, pre_tokenizers::byte_level::ByteLevel};
use understudy_ident::Digest;

pub use markers::Rendered;
pub(crate) use markers::{Markers, Voice};
pub use stream::TokenStream;

use crate::{
    config::hf::eos_ids,
    error::{ModelError, Result, refuse},
    weights::GgufSource,
};

/// A model's vocabulary and the ids at which it stops.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    eos: Vec<u32>,
    bos: Option<u32>,
    digest: String,
    markers: Markers,
    /// The same tokenizer knowing markers by their private spelling only; made when first needed.
    private: Arc<OnceLock<Result<tokenizers::Tokenizer, String>>>,
    /// What each id adds to a text; made when first needed.
    bytes: Arc<OnceLock<Vec<Option<Vec<u8>>>>>,
}

impl Tokenizer {
    /// That of a base, whose weights stay where they are.
    pub fn of_base(path: &Path) -> Result<Self> {
        if path.join("config.json").is_file() {
            return Self::from_directory(path);
        }
        Self::from_gguf(GgufSource::open(path)?.0.content())
    }

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
        let markers = Markers::new(inner.get_added_tokens_decoder());
        let (private, bytes) = (Arc::default(), Arc::default());
        Ok(Self { inner, eos, bos, digest, markers, private, bytes })
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
    /// whoever wrote them; nothing is added.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        ids_of(&self.inner, text)
    }

    /// The ids of a conversation. Markers the template wrote become their special ids; the same
    /// characters in a message are text. Without any such, these are the ids [`Self::encode`] gives.
    pub fn encode_rendered(&self, rendered: &Rendered) -> Result<Vec<u32>> {
        if !rendered.text.contains(&*rendered.seam) {
            return self.encode(&rendered.text);
        }
        ids_of(self.private()?, &self.markers.spell_privately(&rendered.text))
    }

    /// The ids of this text in which nothing is a marker.
    pub fn encode_plain(&self, text: &str) -> Result<Vec<u32>> {
        if self.markers.known().iter().all(|marker| !text.contains(marker.text.as_str())) {
            return self.encode(text);
        }
        ids_of(self.private()?, text)
    }

    pub(crate) fn markers(&self) -> &Markers {
        &self.markers
    }

    fn private(&self) -> Result<&tokenizers::Tokenizer> {
        let made = self.private.get_or_init(|| self.with_private_markers());
        made.as_ref().map_err(|why| refuse!(Tokenizer, "markers cannot be told from text: {why}"))
    }

    /// Pre-tokenisation and merges stay what they are; only what the added tokens are called
    /// changes, in the vocabulary as well where they are listed there.
    fn with_private_markers(&self) -> Result<tokenizers::Tokenizer, String> {
        let mut json: Value = serde_json::to_value(&self.inner).map_err(|e| e.to_string())?;
        for marker in self.markers.known() {
            let added = json["added_tokens"].as_array_mut().into_iter().flatten();
            for token in added.filter(|token| token["content"] == marker.text.as_str()) {
                token["content"] = Value::from(marker.private.as_str());
            }
            match &mut json["model"]["vocab"] {
                Value::Object(vocab) => {
                    if let Some(id) = vocab.swap_remove(&marker.text) {
                        vocab.insert(marker.private.clone(), id);
                    }
                }
                Value::Array(pieces) => {
                    for piece in pieces.iter_mut().filter(|p| p[0] == marker.text.as_str()) {
                        piece[0] = Value::from(marker.private.as_str());
                    }
                }
                _ => {}
            }
        }
        let private: tokenizers::Tokenizer =
            serde_json::from_value(json).map_err(|e| e.to_string())?;
        let renamed =
            |marker: &&markers::Marker| private.token_to_id(&marker.private) != Some(marker.id);
        match self.markers.known().iter().find(renamed) {
            None => Ok(private),
            Some(marker) => Err(format!("{} does not keep its id", marker.text)),
        }
    }

    /// The text of ids, special markers included.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.decode_with(ids, false)
    }

    /// The text of ids without special markers, as a user sees it.
    pub fn decode_text(&self, ids: &[u32]) -> Result<String> {
        self.decode_with(ids, true)
    }

    pub(crate) fn decode_with(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        self.inner
            .decode(ids, skip_special)
            .map_err(|error| refuse!(Tokenizer, "ids did not decode: {error}"))
    }

    /// Decodes a growing completion piece by piece.
    pub fn stream(&self) -> TokenStream<'_> {
        TokenStream::new(self, true)
    }

    /// The same, showing special markers.
    pub fn stream_with_markers(&self) -> TokenStream<'_> {
        TokenStream::new(self, false)
    }

    /// The bytes one id adds to a text, markers included; not always whole characters. `None`
    /// beyond the vocabulary.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        let table = self.bytes.get_or_init(|| bytes::table(&self.inner));
        table.get(id as usize)?.as_deref()
    }

    /// Whether an id structures a conversation and is no part of what is said.
    pub fn is_special(&self, id: u32) -> bool {
        let text = self.inner.id_to_token(id);
        text.is_some_and(|text| self.inner.get_added_vocabulary().is_special_token(&text))
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

fn ids_of(tokenizer: &tokenizers::Tokenizer, text: &str) -> Result<Vec<u32>> {
    let encoding = tokenizer
        .encode_fast(text, false)
        .map_err(|error| refuse!(Tokenizer, "text did not encode: {error}"))?;
    Ok(encoding.get_ids().to_vec())
}

#[cfg(test)]
mod tests;
