//! Named models: where their bytes come from, and that they are the right bytes.
//!
//! A name stands for fixed files, each with one SHA-256 digest; the sources of these files are
//! interchangeable and are tried in order (local cache, Hugging Face hub, Python package).
//!
//! Guarantees: a path handed out for a name holds the bytes the catalog pins, whichever source they
//! came from; a sentence encoder is never handed out as a base; a file appears in the cache whole or not at all; what an interrupted pull had already
//! fetched is used by the next one where the source allows it; when no source answers, the error
//! says what each of them answered and what to do.
//!
//! Never: loads a tensor. Neither draws a progress bar nor reads configuration; the one exception
//! is what `hf-hub` itself reads (`HF_ENDPOINT`, and the user's token below `HF_HOME`).

mod catalog;
mod error;
mod hub;
mod progress;
mod resolve;
mod sha256;
mod source;

pub use catalog::{CatalogEntry, Origin, PinnedFile, Purpose};
pub use error::{HubError, Refusal};
pub use hub::{CatalogRow, Hub, PulledModel};
pub use progress::Progress;
pub use resolve::Base;
pub use sha256::Sha256;
