//! Which format a text is in.

use crate::{IngestError, Row};

/// What [`crate::read`] understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// [`Format::Rows`] when a mapping is given, else told by the fields of the first row.
    Auto,
    /// OpenAI fine-tuning: `{"messages": […]}`, the last message being the reply.
    OpenAi,
    /// TRL: `{"prompt", "completion"}`, with a `label` or without, or `{"prompt", "chosen",
    /// "rejected"}`; each a string or a list of messages. A string prompt becomes a user message.
    Trl,
    /// Any objects, read through a [`crate::RowMapping`].
    Rows,
    /// Our own: `{"step": …}` or `{"outcome": …}`.
    Understudy,
}

impl Format {
    pub fn parse(name: &str) -> Result<Self, IngestError> {
        let all = [Self::Auto, Self::OpenAi, Self::Trl, Self::Rows, Self::Understudy];
        all.into_iter()
            .find(|format| format.as_str() == name)
            .ok_or_else(|| IngestError::UnknownFormat(name.to_owned()))
    }

    /// The spelling [`Self::parse`] reads.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::OpenAi => "openai",
            Self::Trl => "trl",
            Self::Rows => "rows",
            Self::Understudy => "understudy",
        }
    }

    /// What a row with these fields most likely is.
    pub(crate) fn of_row(row: &Row) -> Self {
        let has = |field: &str| row.contains_key(field);
        if has("messages") {
            Self::OpenAi
        } else if (has("chosen") && has("rejected")) || (has("prompt") && has("completion")) {
            Self::Trl
        } else if row.len() == 1 && (has("step") || has("outcome")) {
            Self::Understudy
        } else {
            Self::Rows
        }
    }
}
