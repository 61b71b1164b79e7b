//! Why something could not be recorded or read, as situations a caller can act on.

use std::{io, sync::Arc};

use understudy_storage::StorageError;

/// Cheap to clone, because one failed commit is the answer to everyone in it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum JournalError {
    #[error(transparent)]
    Open(Arc<StorageError>),

    #[error("failed to start the journal's writer thread: {0}")]
    Start(Arc<io::Error>),

    /// The queue is full: the disk is slower than what arrives.
    #[error(
        "the journal has {waiting_bytes} bytes waiting to be written and takes no more; send this again in {retry_after_ms} ms"
    )]
    Busy { waiting_bytes: usize, retry_after_ms: u64 },

    #[error(
        "{id} takes {bytes} bytes in the journal, more than its queue may hold ({limit}); raise `queue_bytes` or send less in one message"
    )]
    TooLarge { id: String, bytes: usize, limit: usize },

    /// A number that is not finite, say, which JSON has no word for.
    #[error("{id} cannot be recorded, because it could not be read back: {why}")]
    Unstorable { id: String, why: String },

    /// The id was used before for something else; ids are for sending the same thing again.
    #[error("{id} was recorded before with another content; use a new id")]
    Conflict { id: String },

    #[error(
        "failed to write the journal: no space left on its disk or below its size limit; nothing of this was recorded, make room and send it again"
    )]
    Full,

    #[error("failed to write the journal: {0}; nothing of this was recorded, send it again")]
    Write(Arc<rusqlite::Error>),

    /// For good: what the system could not write it has forgotten, and a later flush would not say so.
    #[error(
        "failed to flush the journal to its disk: {0}; what was just written may not survive a power failure, and nothing more is taken until the journal is opened again: look at the disk, then restart"
    )]
    Flush(Arc<io::Error>),

    #[error("failed to read the journal: {0}")]
    Read(Arc<rusqlite::Error>),

    #[error(
        "record {seq} of the journal cannot be understood: {why}; a newer version may have written it"
    )]
    Unreadable { seq: u64, why: String },

    #[error(
        "cannot read the journal up to record {until}: it ends with record {last}; is it the right one?"
    )]
    Beyond { until: u64, last: u64 },

    #[error("record {seq} of the journal was erased with the person it was about")]
    Erased { seq: u64 },

    #[error(
        "the subject is erased, but somebody still reads the journal as it was before, and its log \
         cannot be emptied; end that reader and erase the subject again"
    )]
    StillRead,

    #[error(
        "the subject is erased, but steps that could not be written yet lie in the files \
         `journal.db-spool-…`; make room on the disk and erase the subject again"
    )]
    StillSpooled,

    #[error("the journal is closed")]
    Closed,
}

impl JournalError {
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. })
    }

    pub(crate) fn open(error: StorageError) -> Self {
        Self::Open(Arc::new(error))
    }

    pub(crate) fn write(error: rusqlite::Error) -> Self {
        if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) {
            return Self::Full;
        }
        Self::Write(Arc::new(error))
    }

    pub(crate) fn read(error: rusqlite::Error) -> Self {
        Self::Read(Arc::new(error))
    }
}
