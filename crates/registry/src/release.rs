//! Releases: what one is. `start.rs` admits a candidate, `commands.rs` carries out what is asked of a
//! release, `pointer.rs` moves the channel for it.

mod commands;
mod pointer;
mod start;

pub use start::Missing;

use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use understudy_ident::{AdapterVersion, Digest, ReleaseId, TaskName, Timestamp};

use crate::{
    Override, PauseReason, Registry, RegistryError, ReleaseState, Target,
    registry::{record, records},
};

/// What is needed to start a release.
#[derive(Debug, Clone, PartialEq)]
pub struct StartRelease {
    pub candidate: AdapterVersion,
    pub rollback: RollbackTarget,
    /// The rules of the release, kept as they are for its whole life.
    pub policy: Value,
    /// Hexadecimal; decides which units meet the candidate.
    pub salt: String,
    /// Takes the place of a passing report, and is never forgotten.
    pub forced: Option<Override>,
}

/// What a rollback returns to, and how it was made sure that this answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackTarget {
    /// What serves now; before the first promotion the teacher or the base model.
    pub target: Target,
    /// For an adapter: the generation an engine reported after it had loaded it.
    pub loaded_generation: Option<String>,
    /// A sentence: "loaded by the engine and answered a probe in 210 ms".
    pub verified_by: String,
}

/// A release as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReleaseRecord {
    pub id: ReleaseId,
    pub task: TaskName,
    pub candidate: AdapterVersion,
    /// The candidate's content.
    pub generation: Digest,
    pub rollback: RollbackTarget,
    pub policy: Value,
    pub salt: String,
    pub forced: Option<Override>,
    /// The passing report that admitted the candidate; none only where it was forced.
    pub report: Option<Digest>,
    pub state: ReleaseState,
    /// Why it is paused, while it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_because: Option<PauseReason>,
    /// Which release of this candidate it is, counted from 1.
    #[serde(default = "first")]
    pub attempt: u32,
    /// Of the ramp, counted from 0.
    pub step: u32,
    /// Grows by one with every change; a decision names the revision it was made at.
    pub revision: u64,
    pub owner: String,
    pub reason: String,
    pub started_at: Timestamp,
    /// Who made the last change, why and when.
    pub changed_by: String,
    pub changed_because: String,
    pub changed_at: Timestamp,
    /// What serves after a rollback.
    pub returned_to: Option<Target>,
}

fn first() -> u32 {
    1
}

impl Registry {
    pub fn release(&self, id: &ReleaseId) -> Result<ReleaseRecord, RegistryError> {
        self.read(|connection| load(connection, id))
    }

    /// The release of a task whose candidate's fate is open; there is never more than one.
    pub fn open_release(&self, task: &TaskName) -> Result<Option<ReleaseRecord>, RegistryError> {
        self.read(|connection| open_release(connection, task))
    }

    /// The release that a rollback of a task means: the open one, or else the one that promoted
    /// what serves now.
    pub fn release_to_roll_back(
        &self,
        task: &TaskName,
    ) -> Result<Option<ReleaseRecord>, RegistryError> {
        self.read(|connection| match open_release(connection, task)? {
            Some(open) => Ok(Some(open)),
            None => serving_release(connection, task),
        })
    }

    /// All releases of a task, from the first.
    pub fn releases(&self, task: &TaskName) -> Result<Vec<ReleaseRecord>, RegistryError> {
        let sql = "SELECT record FROM release WHERE task = ?1 ORDER BY seq";
        self.read(|connection| records(connection, sql, [task.as_str()]))
    }
}

pub(crate) fn open_release(
    connection: &Connection,
    task: &TaskName,
) -> Result<Option<ReleaseRecord>, RegistryError> {
    let sql = "SELECT record FROM release WHERE task = ?1
               AND state IN ('staging', 'ramping', 'paused', 'awaiting_approval')";
    record(connection, sql, [task.as_str()])
}

/// The release that promoted what serves now.
fn serving_release(
    connection: &Connection,
    task: &TaskName,
) -> Result<Option<ReleaseRecord>, RegistryError> {
    let Some(Target::Adapter(version)) = crate::channel::stable(connection, task)? else {
        return Ok(None);
    };
    let sql = "SELECT record FROM release WHERE task = ?1 AND state = 'promoted'
               AND record ->> '$.candidate' = ?2 ORDER BY seq DESC LIMIT 1";
    record(connection, sql, [task.to_string(), version.to_string()])
}

fn load(connection: &Connection, id: &ReleaseId) -> Result<ReleaseRecord, RegistryError> {
    let found = record(connection, "SELECT record FROM release WHERE id = ?1", [id.as_str()])?;
    found.ok_or_else(|| RegistryError::UnknownRelease { id: id.clone() })
}
