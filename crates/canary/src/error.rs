//! Why a tick could not be completed; the next one tries again.

use understudy_ident::{AdapterVersion, TaskName};
use understudy_inference::InferenceError;
use understudy_journal::JournalError;
use understudy_memory::MemoryError;
use understudy_registry::RegistryError;
use understudy_router::RouterError;

#[derive(Debug, thiserror::Error)]
pub enum CanaryError {
    #[error("reading the evidence failed: {0}")]
    Journal(#[from] JournalError),
    #[error("the registry refused: {0}")]
    Registry(#[from] RegistryError),
    #[error("a rule of the release is wrong: {0}")]
    Rules(#[from] RouterError),
    #[error("the rules of release {release} cannot be read: {why}")]
    Unreadable { release: String, why: String },
    #[error(
        "{candidate} is not a version of the recipe's task `{task}`; give the recipe it was made by"
    )]
    OtherRecipe { candidate: AdapterVersion, task: TaskName },
    #[error("the recipe has no [release], which says how to ramp; add one")]
    NoRelease,
    #[error("the recipe names the reward policy `{name}`, which does not exist; say `default`")]
    UnknownReward { name: String },
    #[error("{what} cannot serve: {source}")]
    Load { what: String, source: InferenceError },
    #[error("{what} cannot be shown to anybody: {source}")]
    Lessons { what: String, source: Box<MemoryError> },
    #[error("the memory refused: {0}")]
    Memory(Box<MemoryError>),
    #[error("{what} loaded as {found}, but is registered as {expected}; its files were changed")]
    OtherContent { what: String, expected: String, found: String },
}

/// Boxed, because it is larger than all others.
impl From<MemoryError> for CanaryError {
    fn from(error: MemoryError) -> Self {
        Self::Memory(Box::new(error))
    }
}
