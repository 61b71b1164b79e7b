//! What can go wrong while storing or reading, as situations a caller can act on.

use std::{
    io,
    path::{Path, PathBuf},
};

#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// `attempt` completes "failed to …" and is followed by the path.
    #[error("failed to {attempt} {}", path.display())]
    Io { attempt: &'static str, path: PathBuf, source: io::Error },

    #[error("refused to overwrite {}: what is published never changes", path.display())]
    AlreadyPublished { path: PathBuf },

    #[error(
        "refused to publish {}: it is a symbolic link or special file, which would make the directory depend on what lies outside it; replace it by a copy",
        path.display()
    )]
    NotPlain { path: PathBuf },

    #[error(
        "data directory {} is in use{}; stop that process, or choose another directory with --data-dir",
        dir.display(),
        holder.map(|pid| format!(" by process {pid}")).unwrap_or_default()
    )]
    DataDirInUse { dir: PathBuf, holder: Option<u32> },

    #[error("failed to {attempt} database {}", path.display())]
    Sqlite { attempt: &'static str, path: PathBuf, source: rusqlite::Error },

    #[error(
        "database {} cannot use write-ahead logging (SQLite chose `{mode}`); put the data directory on a local disk",
        path.display()
    )]
    NoWriteAheadLog { path: PathBuf, mode: String },

    #[error(
        "database {} has schema version {found}, but this program knows only up to {known}; open it with the newer version that wrote it, or restore a backup",
        path.display()
    )]
    DatabaseTooNew { path: PathBuf, found: u32, known: u32 },

    #[error("failed to migrate database {} to schema version {version}; it was left as it was", path.display())]
    Migration { path: PathBuf, version: u32, source: rusqlite::Error },

    #[error(
        "refused to migrate database {} to schema version {version}: {violations} rows would point at nothing; it was left as it was",
        path.display()
    )]
    MigrationBreaksReferences { path: PathBuf, version: u32, violations: usize },

    #[error(
        "migration at position {position} has version {version}; migrations count 1, 2, 3, … without gaps"
    )]
    MigrationOrder { position: usize, version: u32 },
}

/// Adds what was attempted, and on which path, to an error of the operating system.
pub(crate) trait Attempt<T> {
    fn attempt(self, attempt: &'static str, path: &Path) -> Result<T, StorageError>;
}

impl<T> Attempt<T> for io::Result<T> {
    fn attempt(self, attempt: &'static str, path: &Path) -> Result<T, StorageError> {
        self.map_err(|source| StorageError::Io { attempt, path: path.to_owned(), source })
    }
}
