//! Why a rehearsal could not be held.

use std::io;

use understudy_canary::CanaryError;
use understudy_inference::InferenceError;
use understudy_journal::JournalError;
use understudy_registry::RegistryError;
use understudy_router::RouterError;
use understudy_upstream::UpstreamError;

#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// `attempt` completes "failed to …".
    #[error("failed to {attempt}: {source}")]
    Io { attempt: &'static str, source: io::Error },
    #[error("the journal of the drill failed: {0}")]
    Journal(#[from] JournalError),
    #[error("the registry of the drill refused: {0}")]
    Registry(#[from] RegistryError),
    #[error("the controller stumbled: {0}")]
    Canary(#[from] CanaryError),
    #[error("the release of the drill cannot have these rules: {0}")]
    Rules(#[from] RouterError),
    #[error("a replica of the drill failed: {0}")]
    Replica(#[from] UpstreamError),
    #[error("the drill's model refused: {0}")]
    Model(#[from] InferenceError),
    #[error("the drill's server answered {status} to {what}: {said}")]
    Answer { what: &'static str, status: u16, said: String },
    #[error("{what} was lost on its way: {source}")]
    Lost { what: &'static str, source: Box<ureq::Error> },
    #[error("the policy compares no costs: set `cost_cap` to drill `costlier`")]
    NoCosts,
    #[error("{field} is {value}: give {expected}")]
    Setting { field: &'static str, value: f64, expected: &'static str },
    #[error("a record of the drill cannot be read: {0}")]
    Record(#[from] serde_json::Error),
}

impl DrillError {
    pub(crate) fn io(attempt: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { attempt, source }
    }

    pub(crate) fn lost(what: &'static str) -> impl FnOnce(ureq::Error) -> Self {
        move |source| Self::Lost { what, source: Box::new(source) }
    }
}
