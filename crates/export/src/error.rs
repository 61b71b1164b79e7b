//! Why nothing was exported.

use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("{} exists already; name a directory that does not, or remove it first", .0.display())]
    Exists(PathBuf),

    #[error("failed to {attempt} {}", path.display())]
    Io { attempt: &'static str, path: PathBuf, source: std::io::Error },

    #[error("failed to write {} as Parquet: {why}", path.display())]
    Parquet { path: PathBuf, why: String },

    #[error("line {line} of {file} is no row: {why}; check the version with `dataset show`")]
    Row { file: String, line: usize, why: String },

    #[error("column `{column}` cannot hold {found}; the version was written by a newer program")]
    Column { column: String, found: String },

    #[error(transparent)]
    Dataset(#[from] understudy_dataset::DatasetError),

    #[error(transparent)]
    Storage(#[from] understudy_storage::StorageError),
}

/// Adds what was attempted, and on which path, to an error of the operating system.
pub(crate) trait Attempt<T> {
    fn attempt(self, attempt: &'static str, path: &Path) -> Result<T, ExportError>;
}

impl<T> Attempt<T> for std::io::Result<T> {
    fn attempt(self, attempt: &'static str, path: &Path) -> Result<T, ExportError> {
        self.map_err(|source| ExportError::Io { attempt, path: path.to_owned(), source })
    }
}
