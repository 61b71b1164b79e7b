//! Freezes: times in which no candidate gains users. Taking one off is never frozen.

use std::fmt;

use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use understudy_ident::{TaskName, Timestamp};

use crate::{Change, Registry, RegistryError, Role, audit::Action, fact, people};

/// When and where nothing new may go out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    /// As `freeze-3`.
    pub id: String,
    /// One task, or without it all of them.
    pub task: Option<TaskName>,
    pub from: Timestamp,
    /// Exclusive; without it, until somebody lifts the freeze.
    pub until: Option<Timestamp>,
    pub owner: String,
    pub reason: String,
    pub at: Timestamp,
}

impl Freeze {
    fn covers(&self, task: &TaskName, now: Timestamp) -> bool {
        self.task.as_ref().is_none_or(|frozen| frozen == task)
            && self.from <= now
            && self.until.is_none_or(|until| now < until)
    }
}

/// "freeze-3 until 2026-01-02T00:00:00Z (ada: the holidays)".
impl fmt::Display for Freeze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, until, owner, reason, .. } = self;
        match until {
            Some(until) => write!(f, "{id} until {until} ({owner}: {reason})"),
            None => write!(f, "{id} until it is lifted ({owner}: {reason})"),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Lift {
    id: String,
    owner: String,
    reason: String,
    at: Timestamp,
}

impl Registry {
    /// Freezes one task, or all of them, in a span of time; without a start, from now on.
    pub fn freeze(
        &self,
        task: Option<&TaskName>,
        from: Option<Timestamp>,
        until: Option<Timestamp>,
        change: Change<'_>,
    ) -> Result<Freeze, RegistryError> {
        self.once(change, &("freeze", task, from, until), |transaction| {
            let who = &[Role::ReleaseManager, Role::OnCall];
            people::allow(transaction, change, who, "freeze releases")?;
            let at = change.now();
            let from = from.unwrap_or(at);
            if until.is_some_and(|until| until <= from.max(at)) {
                return Err(RegistryError::EmptyFreeze);
            }
            let number = fact::all::<Freeze>(transaction, Action::Freeze)?.len() + 1;
            let freeze = Freeze {
                id: format!("freeze-{number}"),
                task: task.cloned(),
                from,
                until,
                owner: change.owner.to_owned(),
                reason: change.reason.to_owned(),
                at,
            };
            fact::add(transaction, Action::Freeze, task, &freeze.id, &freeze, change)?;
            Ok(freeze)
        })
    }

    /// Ends a freeze before its time. Lifting it twice changes nothing.
    pub fn lift_freeze(&self, id: &str, change: Change<'_>) -> Result<Freeze, RegistryError> {
        self.once(change, &("lift", id), |transaction| {
            people::allow(transaction, change, &[Role::ReleaseManager], "lift a freeze")?;
            let freeze = fact::about::<Freeze>(transaction, Action::Freeze, id)?.pop();
            let freeze =
                freeze.ok_or_else(|| RegistryError::UnknownFreeze { id: id.to_owned() })?;
            if !lifted(transaction, id)? {
                let lift = Lift {
                    id: id.to_owned(),
                    owner: change.owner.to_owned(),
                    reason: change.reason.to_owned(),
                    at: change.now(),
                };
                let task = freeze.task.as_ref();
                fact::add(transaction, Action::Lift, task, id, &lift, change)?;
            }
            Ok(freeze)
        })
    }

    /// Freezes that are in force or still to come, oldest first.
    pub fn freezes(&self, now: Timestamp) -> Result<Vec<Freeze>, RegistryError> {
        self.read(|connection| {
            let mut freezes = standing(connection)?;
            freezes.retain(|freeze| freeze.until.is_none_or(|until| now < until));
            Ok(freezes)
        })
    }
}

/// The freeze that a task is under, if any.
pub(crate) fn of(
    connection: &Connection,
    task: &TaskName,
    now: Timestamp,
) -> Result<Option<Freeze>, RegistryError> {
    Ok(standing(connection)?.into_iter().find(|freeze| freeze.covers(task, now)))
}

fn standing(connection: &Connection) -> Result<Vec<Freeze>, RegistryError> {
    let mut standing = Vec::new();
    for freeze in fact::all::<Freeze>(connection, Action::Freeze)? {
        if !lifted(connection, &freeze.id)? {
            standing.push(freeze);
        }
    }
    Ok(standing)
}

fn lifted(connection: &Connection, id: &str) -> Result<bool, RegistryError> {
    Ok(!fact::about::<Lift>(connection, Action::Lift, id)?.is_empty())
}
