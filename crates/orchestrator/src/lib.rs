//! The loop: decide the next step, run it through ports, log what came of it.
//!
//! Guarantees: a run is its facts. The next step is a pure function of recipe and facts
//! ([`plan::next`]), every fact is durable before the step after it begins, and so a run killed at
//! any moment goes on where it stopped, repeating at most the step that had not finished.
//!
//! Never: imports a stage. What a step does lies behind [`Ports`], which the binary implements.

mod drive;
mod fact;
pub mod plan;
mod ports;
mod store;

pub use drive::{Ending, Observer, drive};
pub use fact::{Fact, ReleaseEnd, Trained};
pub use ports::{PortError, Ports};
pub use store::{Run, RunStore};

/// Why the loop could not go on.
#[derive(Debug, thiserror::Error)]
pub enum OrchestratorError {
    #[error("run log: {0}")]
    Storage(#[from] understudy_storage::StorageError),
    #[error("run log: {0}")]
    Sql(#[from] rusqlite::Error),
    #[error("there is no run `{0}`; `understudy run --list` shows them")]
    UnknownRun(String),
    #[error("run `{run}` has a record this version cannot read: {why}")]
    Unreadable { run: String, why: String },
    #[error("{step} failed: {source}")]
    Step { step: &'static str, source: PortError },
}

#[cfg(test)]
mod tests;
