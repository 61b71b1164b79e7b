//! The channel of a task: the one pointer that says what serves, and everywhere it ever pointed.

use std::{fmt, str::FromStr};

use rusqlite::{Connection, Transaction, params};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use understudy_ident::{AdapterVersion, IdentError, ReleaseId, TaskName, Timestamp};
use understudy_manifest::canonical_json;

use crate::{
    Change, Registry, RegistryError,
    audit::{self, Action},
    registry::{record, records},
};

/// What can serve a task; on the wire `teacher`, `base` or `task@N`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Teacher,
    /// The base model without an adapter.
    Base,
    Adapter(AdapterVersion),
}

impl Target {
    pub fn adapter(&self) -> Option<&AdapterVersion> {
        match self {
            Self::Adapter(version) => Some(version),
            Self::Teacher | Self::Base => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Teacher => f.write_str("teacher"),
            Self::Base => f.write_str("base"),
            Self::Adapter(version) => version.fmt(f),
        }
    }
}

impl FromStr for Target {
    type Err = IdentError;

    fn from_str(text: &str) -> Result<Self, IdentError> {
        match text {
            "teacher" => Ok(Self::Teacher),
            "base" => Ok(Self::Base),
            _ => text.parse().map(Self::Adapter),
        }
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// The pointer as it stands; its names are views of its history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    pub task: TaskName,
    /// How often the pointer has moved.
    pub generation: u64,
    /// What serves; nothing before the first promotion.
    pub stable: Option<Target>,
    /// What served before that.
    pub previous: Option<Target>,
}

/// One move of the pointer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelMove {
    pub task: TaskName,
    pub from: Target,
    pub to: Target,
    /// Whose promotion, rollback or undoing moved it; there is no other way.
    pub release: ReleaseId,
    pub owner: String,
    pub reason: String,
    pub moved_at: Timestamp,
}

impl Registry {
    /// What serves a task; `None` until the first promotion.
    pub fn stable(&self, task: &TaskName) -> Result<Option<Target>, RegistryError> {
        self.read(|connection| stable(connection, task))
    }

    /// Where a task's pointer stands, and how often it has moved.
    pub fn channel(&self, task: &TaskName) -> Result<Channel, RegistryError> {
        let moves = self.history(task)?;
        let last = moves.last();
        Ok(Channel {
            task: task.clone(),
            generation: moves.len() as u64,
            stable: last.map(|last| last.to.clone()),
            previous: last.map(|last| last.from.clone()),
        })
    }

    /// Every move of a task's pointer, from the first.
    pub fn history(&self, task: &TaskName) -> Result<Vec<ChannelMove>, RegistryError> {
        self.read(|connection| history(connection, task))
    }
}

pub(crate) fn stable(
    connection: &Connection,
    task: &TaskName,
) -> Result<Option<Target>, RegistryError> {
    let sql = "SELECT record FROM channel_move WHERE task = ?1 ORDER BY seq DESC LIMIT 1";
    let last: Option<ChannelMove> = record(connection, sql, [task.as_str()])?;
    Ok(last.map(|last| last.to))
}

pub(crate) fn history(
    connection: &Connection,
    task: &TaskName,
) -> Result<Vec<ChannelMove>, RegistryError> {
    let sql = "SELECT record FROM channel_move WHERE task = ?1 ORDER BY seq";
    records(connection, sql, [task.as_str()])
}

pub(crate) fn move_pointer(
    transaction: &Transaction<'_>,
    made: &ChannelMove,
    change: Change<'_>,
) -> Result<(), RegistryError> {
    let text = canonical_json(made);
    transaction.execute(
        "INSERT INTO channel_move (task, record) VALUES (?1, ?2)",
        params![made.task.as_str(), text],
    )?;
    audit::append(transaction, Action::Move, &made.task, made.task.as_str(), text, change)
}
