//! Releases: what one is, and which state may follow which. `commands.rs` carries them out.

mod commands;

use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use understudy_ident::{AdapterVersion, Digest, ReleaseId, TaskName, Timestamp};

use crate::{
    Registry, RegistryError, Target,
    audit::Action,
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

/// Who put a candidate on stage without a passing report, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    pub owner: String,
    pub reason: String,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReleaseState {
    /// The candidate meets its share of users.
    Ramping,
    /// The ramp stands still until a person decides.
    Paused,
    /// The candidate serves.
    Promoted,
    /// The candidate was taken off, during the ramp or after its promotion.
    RolledBack,
    /// Given up without a finding against the candidate.
    Aborted,
}

impl ReleaseState {
    pub const ALL: [Self; 5] =
        [Self::Ramping, Self::Paused, Self::Promoted, Self::RolledBack, Self::Aborted];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ramping => "ramping",
            Self::Paused => "paused",
            Self::Promoted => "promoted",
            Self::RolledBack => "rolled_back",
            Self::Aborted => "aborted",
        }
    }

    /// Whether the candidate's fate is still open.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Ramping | Self::Paused)
    }
}

/// What can be asked of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    Advance { to_step: u32 },
    Pause,
    Resume,
    Promote,
    RollBack,
    Abort,
}

impl Command {
    fn as_str(self) -> &'static str {
        match self {
            Self::Advance { .. } => "advance",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Promote => "promote",
            Self::RollBack => "roll back",
            Self::Abort => "abort",
        }
    }

    fn action(self) -> Action {
        match self {
            Self::Advance { .. } => Action::Advance,
            Self::Pause => Action::Pause,
            Self::Resume => Action::Resume,
            Self::Promote => Action::Promote,
            Self::RollBack => Action::RollBack,
            Self::Abort => Action::Abort,
        }
    }
}

/// Where a command leads from a state and step; the same state and step where it has been carried
/// out already, nothing where it is not allowed.
///
/// Taking the candidate off is allowed from everywhere, and asking again for what has ended is no
/// error. A step is never taken back, and what has ended never goes on.
fn next(state: ReleaseState, step: u32, command: Command) -> Option<(ReleaseState, u32)> {
    use ReleaseState::{Aborted, Paused, Promoted, Ramping, RolledBack};
    match (command, state) {
        (Command::Advance { to_step }, Ramping) if to_step >= step => Some((Ramping, to_step)),
        (Command::Pause, Ramping | Paused) => Some((Paused, step)),
        (Command::Resume, Ramping | Paused) => Some((Ramping, step)),
        (Command::Promote, Ramping | Paused | Promoted) => Some((Promoted, step)),
        (Command::RollBack, Ramping | Paused | Promoted) => Some((RolledBack, step)),
        (Command::Abort, Ramping | Paused) => Some((Aborted, step)),
        (Command::RollBack | Command::Abort, RolledBack | Aborted) => Some((state, step)),
        _ => None,
    }
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
    let sql = "SELECT record FROM release WHERE task = ?1 AND state IN ('ramping', 'paused')";
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taking_the_candidate_off_is_allowed_from_everywhere() {
        for state in ReleaseState::ALL {
            let (after, _) = next(state, 2, Command::RollBack).unwrap();
            assert!(matches!(after, ReleaseState::RolledBack | ReleaseState::Aborted));
        }
    }

    #[test]
    fn every_command_is_idempotent() {
        let commands = [
            Command::Advance { to_step: 3 },
            Command::Pause,
            Command::Resume,
            Command::Promote,
            Command::RollBack,
            Command::Abort,
        ];
        for command in commands {
            for state in ReleaseState::ALL {
                if let Some((after, step)) = next(state, 1, command) {
                    assert_eq!(next(after, step, command), Some((after, step)), "{command:?}");
                }
            }
        }
    }

    #[test]
    fn what_has_ended_does_not_go_on_and_steps_are_not_taken_back() {
        for command in [Command::Resume, Command::Pause, Command::Promote] {
            assert_eq!(next(ReleaseState::RolledBack, 1, command), None);
            assert_eq!(next(ReleaseState::Aborted, 1, command), None);
        }
        assert_eq!(next(ReleaseState::Promoted, 1, Command::Pause), None);
        assert_eq!(next(ReleaseState::Ramping, 2, Command::Advance { to_step: 1 }), None);
        assert_eq!(next(ReleaseState::Paused, 1, Command::Advance { to_step: 2 }), None);
    }
}
