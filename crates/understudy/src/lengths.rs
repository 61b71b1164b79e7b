//! How long texts are, as the base of a recipe reads them.

use std::{error::Error, path::Path};

use anyhow::{Context, Result};
use understudy_dataset::Tokens;
use understudy_model::Tokenizer;

/// Counts by the base's own tokenizer; of the base nothing else is read.
#[derive(Debug)]
pub(crate) struct BaseTokens(Tokenizer);

impl BaseTokens {
    pub(crate) fn of(base: &Path) -> Result<Self> {
        let tokenizer = Tokenizer::of_base(base);
        tokenizer.map(Self).context("the recipe's limits in tokens need the tokenizer of its base")
    }
}

impl Tokens for BaseTokens {
    fn tokenizer(&self) -> String {
        self.0.digest().to_owned()
    }

    /// What somebody wrote is text, whatever markers it spells.
    fn count(&self, text: &str) -> Result<u64, Box<dyn Error + Send + Sync>> {
        Ok(self.0.encode_plain(text)?.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_in_a_text_count_as_their_characters() {
        let tokens = BaseTokens(Tokenizer::byte_level().unwrap());
        assert_eq!(tokens.count("four").unwrap(), 4);
        assert_eq!(tokens.count("<|im_end|>").unwrap(), 10);
        assert_eq!(tokens.tokenizer(), tokens.0.digest());
        assert!(BaseTokens::of(Path::new("/nowhere")).unwrap_err().to_string().contains("base"));
    }
}
