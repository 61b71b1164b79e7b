//! The loop: decide the next step, run it through ports, log what came of it.
//!
//! Guarantees: a run is its facts. The next step is a pure function of recipe and facts
//! ([`plan::next`]), every fact is durable before the step after it begins, and so a run killed at
//! any moment goes on where it stopped, repeating at most the step that had not finished.
//!
//! By itself the loop is the same run, begun by [`decide`]: a pure function of the settings, of what
//! a [`Lookout`] sees and of the turns so far. A [`Supervisor`] asks it, takes one step at a time,
//! waits where a person wants to be asked, and writes down what it does as sentences. A candidate
//! is remembered with its data and what came of them, and the same data are not trained on twice.
//!
//! Never: imports a stage, or reads the wall clock to decide. What a step does lies behind
//! [`Ports`], which the binary implements.

mod decide;
mod drive;
mod fact;
mod note;
mod past;
pub mod plan;
mod ports;
mod sight;
mod status;
mod store;
mod supervise;

pub use decide::{Because, Decision, Hold, Stop, decide};
pub use drive::{Ending, Observer, drive};
pub use fact::{Fact, ReleaseEnd, Trained, Turn, turn_of};
pub use note::{Note, NoteKind};
pub use past::{Past, Paused, TurnStory};
pub use ports::{PortError, Ports};
pub use sight::{Earned, Lookout, Sight};
pub use status::{Status, StatusState};
pub use store::{Run, RunStore};
pub use supervise::{StepHold, Supervisor, Tick};

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
    #[error("run `{run}` waits for nobody: it is over, or a person began it")]
    NothingToApprove { run: String },
    #[error("looking at the journal and the registry failed: {0}")]
    Lookout(#[source] PortError),
    #[error("{step} failed: {source}")]
    Step { step: &'static str, source: PortError },
}

#[cfg(test)]
mod tests;
