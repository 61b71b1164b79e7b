//! Why something could not be recorded or read.

#[derive(Debug, Clone, thiserror::Error)]
pub enum JournalError {
    #[error("the journal has {waiting_bytes} bytes waiting to be written; retry in a second")]
    Busy { waiting_bytes: usize },
    #[error("the journal could not be written: {0}; nothing was acknowledged")]
    Write(String),
    #[error("the journal could not be read: {0}")]
    Read(String),
    #[error("record {seq} of the journal cannot be understood: {why}")]
    Unreadable { seq: u64, why: String },
    /// The id was used before for something else; ids are for sending the same thing again.
    #[error("{id} was recorded before with another content; use a new id")]
    Conflict { id: String },
    #[error("the journal is closed")]
    Closed,
}

impl JournalError {
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. })
    }

    pub(crate) fn write(error: impl std::fmt::Display) -> Self {
        Self::Write(error.to_string())
    }

    pub(crate) fn read(error: impl std::fmt::Display) -> Self {
        Self::Read(error.to_string())
    }
}
