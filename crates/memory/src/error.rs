//! Why the memory refused; by what the caller can do about it.

use std::{io, path::PathBuf};

use understudy_ident::Digest;
use understudy_inference::InferenceError;
use understudy_storage::StorageError;

use crate::{MemoryId, Status};

#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    #[error("{text:?} is not a tenant: use 1 to 64 of a-z, 0-9 and `-`, starting with a letter")]
    Tenant { text: String },
    #[error("a principal needs a user of 1 to 256 characters without control characters")]
    User,
    #[error("cannot use the catalogue: {why}; correct memory.toml")]
    Catalogue { why: String },
    #[error("cannot use the settings: `{key}` {why}")]
    Setting { key: &'static str, why: &'static str },
    #[error("cannot keep the text for every user: {why}")]
    Leak { why: String },
    #[error(
        "cannot keep the text for every user before a person has approved these words: {}; \
         approve them, or write it without them",
        words.join(", ")
    )]
    Quarantined { words: Vec<String> },
    #[error("the text does not fit: {why}")]
    Text { why: String },
    #[error("cannot import the lesson: {why}")]
    Import { why: String },
    #[error("there is no memory {id}; see `understudy memory list`")]
    Unknown { id: MemoryId },
    #[error("cannot {op} memory {id}: it is {}", status.as_str())]
    WrongStatus { op: &'static str, id: MemoryId, status: Status },
    #[error(
        "cannot count whether memory {id} worked: no heal query was offered it, or every offer's \
         outcome is known; ask for a way past the failure first"
    )]
    NotOffered { id: MemoryId },
    #[error("cannot make memory {id} ready for release: {why}")]
    NotReady { id: MemoryId, why: String },
    #[error(
        "cannot have one lesson take the place of {one} and of {other}: a person keeps these two \
         apart; see `understudy memory explain {one}`"
    )]
    KeptApart { one: MemoryId, other: MemoryId },
    #[error("there is no memory release {text}; see `understudy memory list --releases`")]
    UnknownRelease { text: String },
    #[error(
        "{text:?} does not tell which memory release is meant: say more of its name, and at least 4 \
         characters; see `understudy memory list --releases`"
    )]
    AmbiguousRelease { text: String },
    #[error(
        "memory release at {} is damaged: expected content {expected}, found {found}; \
         restore it from a backup or release again",
        directory.display()
    )]
    Damaged { directory: PathBuf, expected: Digest, found: Digest },
    #[error(
        "cannot release {changed} changes at once: at most {limit} may go together, so that a \
         canary says which one it was; name fewer with --only"
    )]
    TooMuchAtOnce { changed: usize, limit: usize },
    #[error(
        "cannot release {count} lessons {group}: at most {limit} may be active; retire some first{}: \
         `understudy memory review` lists which are over the limit",
        least.as_ref().map(|id| format!(", such as {id}, the least useful")).unwrap_or_default()
    )]
    Full { group: String, count: usize, limit: usize, least: Option<MemoryId> },
    #[error("cannot roll back: nothing was released before")]
    NothingBefore,
    #[error("every change needs an owner and a reason: say them in a few words")]
    Unsaid,
    #[error("cannot read the {what} in {}: {why}", path.display())]
    Corrupt { what: &'static str, path: PathBuf, why: String },
    #[error(
        "cannot read the lessons in {}: the key they were sealed with is not at {}; whose they were was \
         forgotten, or the key is to be restored from the backup that the file comes from",
        path.display(), key.display()
    )]
    Sealed { path: PathBuf, key: PathBuf },
    #[error("cannot {attempt} {}", path.display())]
    Io { attempt: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot {attempt} the memories in {}", path.display())]
    Sqlite { attempt: &'static str, path: PathBuf, source: rusqlite::Error },
    #[error("cannot write a memory as JSON")]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("the model did not answer: {0}")]
    Model(#[from] InferenceError),
}

/// Adds what was attempted, and where, to an error of the file system.
pub(crate) trait AttemptIo<T> {
    fn attempt(self, attempt: &'static str, path: &std::path::Path) -> Result<T, MemoryError>;
}

impl<T> AttemptIo<T> for io::Result<T> {
    fn attempt(self, attempt: &'static str, path: &std::path::Path) -> Result<T, MemoryError> {
        self.map_err(|source| MemoryError::Io { attempt, path: path.to_owned(), source })
    }
}

/// The same for SQLite.
pub(crate) trait AttemptSql<T> {
    fn attempt_sql(self, attempt: &'static str, path: &std::path::Path) -> Result<T, MemoryError>;
}

impl<T> AttemptSql<T> for rusqlite::Result<T> {
    fn attempt_sql(self, attempt: &'static str, path: &std::path::Path) -> Result<T, MemoryError> {
        self.map_err(|source| MemoryError::Sqlite { attempt, path: path.to_owned(), source })
    }
}
