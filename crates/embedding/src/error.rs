//! Why there is no vector, as situations a caller can act on.

use std::{io, path::PathBuf};

pub type Result<T, E = EmbeddingError> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum EmbeddingError {
    #[error(
        "failed to read {}; `understudy model pull all-minilm-l6-v2` brings a whole model",
        path.display()
    )]
    Read { path: PathBuf, source: io::Error },

    /// A file of the model is not what it should be.
    #[error("{} is not a sentence encoder that runs here: {why}", path.display())]
    Unsuitable { path: PathBuf, why: String },

    #[error("failed to split a text into tokens: {0}")]
    Tokens(String),

    #[error("failed to compute sentence vectors")]
    Compute(#[from] candle_core::Error),
}
