//! Why an engine does not start. What goes wrong later is an `InferenceError`.

use std::{io, path::PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("engine setting `{setting}` {why}")]
    Config { setting: &'static str, why: String },
    #[error("could not start the engine's thread: {0}")]
    Thread(io::Error),
    #[error(
        "could not take up the adapters listed in {}: {source}; repair or move the file",
        path.display()
    )]
    State { path: PathBuf, source: io::Error },
}
