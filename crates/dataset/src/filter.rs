//! What a recipe does not want, by the text of a step: other languages, and lengths.
//!
//! A step that is left out for this makes no row and is no attempt of a group either, unlike one that
//! was cut off, which shows what the model did.

use std::{error::Error, fmt};

use understudy_manifest::Data;

use crate::{DatasetError, candidate::Candidate, language::language, row::said};

/// Counts tokens as the model will read them.
pub trait Tokens: fmt::Debug {
    /// The digest of the tokenizer, for the manifest.
    fn tokenizer(&self) -> String;

    fn count(&self, text: &str) -> Result<u64, Box<dyn Error + Send + Sync>>;
}

/// The settings, and what they need.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Filter<'a> {
    pub(crate) data: &'a Data,
    pub(crate) tokens: Option<&'a dyn Tokens>,
}

impl Filter<'_> {
    /// Why a step is not wanted. Its edit is held to the same as its reply.
    pub(crate) fn refuse(
        self,
        candidate: &Candidate,
    ) -> Result<Option<&'static str>, DatasetError> {
        let Self { data, .. } = self;
        if self.is_foreign(candidate) {
            return Ok(Some("other_language"));
        }
        if let Some(most) = data.max_prompt_tokens {
            let mut length = 0;
            for message in &candidate.prompt {
                length += self.length(&said(message))?;
            }
            if length > most {
                return Ok(Some("prompt_too_long"));
            }
        }
        if data.min_reply_tokens.is_none() && data.max_reply_tokens.is_none() {
            return Ok(None);
        }
        let edit = candidate.edit().map(str::to_owned);
        for text in [said(&candidate.reply)].into_iter().chain(edit) {
            let length = self.length(&text)?;
            if data.min_reply_tokens.is_some_and(|least| length < least) {
                return Ok(Some("reply_too_short"));
            }
            if data.max_reply_tokens.is_some_and(|most| length > most) {
                return Ok(Some("reply_too_long"));
            }
        }
        Ok(None)
    }

    /// Whether the language of what is wanted cannot be told.
    pub(crate) fn is_untold(self, candidate: &Candidate) -> bool {
        !self.data.languages.is_empty() && language(&candidate.reply.text()).is_none()
    }

    fn is_foreign(self, candidate: &Candidate) -> bool {
        let wanted = &self.data.languages;
        let is_other =
            |text: &str| language(text).is_some_and(|one| wanted.iter().all(|name| name != one));
        !wanted.is_empty()
            && (is_other(&candidate.reply.text()) || candidate.edit().is_some_and(is_other))
    }

    fn length(self, text: &str) -> Result<u64, DatasetError> {
        let tokens = self.tokens.ok_or(DatasetError::NoTokenizer)?;
        tokens.count(text).map_err(DatasetError::Tokens)
    }
}
