//! Texts into WordPiece ids, between the two markers BERT was trained with.

use tokenizers::{Tokenizer, TruncationParams};

/// Longer texts are cut, as `sentence-transformers` cuts them for this family: the model was
/// trained on no more.
const LONGEST: usize = 256;

/// Bytes that are split at all: 256 a token, of which four are usual. Splitting megabytes to keep
/// their first 256 tokens would hold up a request.
const LONGEST_TEXT: usize = 1 << 16;

/// A tokenizer that neither pads nor exceeds what the model can read.
#[derive(Debug)]
pub(crate) struct Tokens {
    tokenizer: Tokenizer,
}

impl Tokens {
    /// `tokenizer.json` may carry padding and truncation of its own; both are replaced.
    pub(crate) fn parse(json: &[u8], positions: usize) -> Result<Self, String> {
        let mut tokenizer = Tokenizer::from_bytes(json).map_err(|error| error.to_string())?;
        tokenizer.with_padding(None);
        let truncation =
            TruncationParams { max_length: LONGEST.min(positions), ..TruncationParams::default() };
        tokenizer.with_truncation(Some(truncation)).map_err(|error| error.to_string())?;
        Ok(Self { tokenizer })
    }

    pub(crate) fn vocabulary(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    pub(crate) fn ids(&self, text: &str) -> Result<Vec<u32>, String> {
        let seen = &text[..text.floor_char_boundary(LONGEST_TEXT)];
        let encoding = self.tokenizer.encode(seen, true).map_err(|error| error.to_string())?;
        Ok(encoding.get_ids().to_vec())
    }
}
