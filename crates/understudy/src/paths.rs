//! Where everything lies inside the data directory.

use std::path::{Path, PathBuf};

/// A data directory and the one place for each thing in it.
#[derive(Debug, Clone)]
pub(crate) struct DataDir {
    root: PathBuf,
}

impl DataDir {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.root.join("journal.db")
    }

    pub(crate) fn registry(&self) -> PathBuf {
        self.root.join("registry.db")
    }

    pub(crate) fn runs_log(&self) -> PathBuf {
        self.root.join("runs.db")
    }

    pub(crate) fn datasets(&self) -> PathBuf {
        self.root.join("datasets")
    }

    /// Where dataset versions were exported to: a subject that is erased is erased there as well.
    pub(crate) fn exports(&self) -> PathBuf {
        self.root.join("exports.jsonl")
    }

    /// Receipts.
    pub(crate) fn erasures(&self) -> PathBuf {
        self.root.join("erasures")
    }

    pub(crate) fn adapters(&self) -> PathBuf {
        self.root.join("adapters")
    }

    pub(crate) fn suites(&self) -> PathBuf {
        self.root.join("suites")
    }

    /// A run's working files: checkpoints, metrics, stage adapters, reports.
    pub(crate) fn run(&self, run: &str) -> PathBuf {
        self.root.join("runs").join(run)
    }
}
