//! Incremental decoding that never shows half a character.

use super::Tokenizer;
use crate::error::Result;

/// Turns a growing list of ids into text, piece by piece; the pieces joined are the text of all
/// ids, except a trailing incomplete character.
#[derive(Debug)]
pub struct TokenStream<'a> {
    tokenizer: &'a Tokenizer,
    /// Ids not yet settled. Some context stays, because what an id reads as can depend on the id
    /// before it.
    ids: Vec<u32>,
    /// How many of `ids` are already shown.
    shown: usize,
    skip_special: bool,
}

impl<'a> TokenStream<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer, skip_special: bool) -> Self {
        Self { tokenizer, ids: Vec::new(), shown: 0, skip_special }
    }

    /// Takes the next id and returns the text that became certain with it, which may be empty.
    pub fn push(&mut self, id: u32) -> Result<String> {
        self.ids.push(id);
        let before = self.decode(&self.ids[..self.shown])?;
        let after = self.decode(&self.ids)?;
        // A character whose bytes are still arriving decodes as U+FFFD.
        if after.ends_with('\u{FFFD}') {
            return Ok(String::new());
        }
        let new = after.strip_prefix(before.as_str()).unwrap_or(&after).to_owned();
        self.ids.drain(..self.shown);
        self.shown = self.ids.len();
        Ok(new)
    }

    /// What is left when the completion ends: replacement characters for an incomplete one.
    pub fn finish(self) -> Result<String> {
        let before = self.decode(&self.ids[..self.shown])?;
        let after = self.decode(&self.ids)?;
        Ok(after.strip_prefix(before.as_str()).unwrap_or_default().to_owned())
    }

    fn decode(&self, ids: &[u32]) -> Result<String> {
        self.tokenizer.decode_with(ids, self.skip_special)
    }
}
