//! Every way the model layer can refuse.

use std::{io, path::PathBuf};

/// What went wrong, said so that the reader knows what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error("could not read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("could not write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{} is not a base model: expected a .gguf file or a directory with config.json", path.display())]
    NotAModel { path: PathBuf },
    #[error("model configuration: {what}")]
    Config { what: String },
    #[error("model weights: tensor {name} {what}")]
    Weight { name: String, what: String },
    #[error("tokenizer: {what}")]
    Tokenizer { what: String },
    #[error("chat template: {what}")]
    Template { what: String },
    #[error("lora: {what}")]
    Lora { what: String },
    #[error("adapter {}: {what}", path.display())]
    Adapter { path: PathBuf, what: String },
    #[error("batch: {what}")]
    Batch { what: String },
    #[error("device: {what}")]
    Device { what: String },
    #[error("tensor operation failed: {0}")]
    Tensor(#[from] candle_core::Error),
}

pub type Result<T, E = ModelError> = std::result::Result<T, E>;

macro_rules! refuse {
    ($kind:ident, $($message:tt)*) => {
        $crate::error::ModelError::$kind { what: format!($($message)*) }
    };
}
pub(crate) use refuse;
