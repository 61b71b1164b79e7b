//! What a task asks for before a candidate meets its users.

use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use understudy_ident::{TaskName, Timestamp};
use understudy_signature::VerifyingKey;

use crate::{Change, Registry, RegistryError, Role, audit::Action, fact, people};

/// The rules of a task; the default asks for a passing report and no more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protection {
    /// How many people besides the version's owner must approve it. One makes two people in all.
    pub approvals: u32,
    /// The controller may ask for a promotion, and a person decides.
    pub promote_by_hand: bool,
    /// Public keys in PEM; where there are any, a version must be signed with one of them.
    pub signers: Vec<String>,
}

/// A task's rules, and who set them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ProtectionRecord {
    task: TaskName,
    rules: Protection,
    owner: String,
    reason: String,
    at: Timestamp,
}

impl Registry {
    pub fn protection(&self, task: &TaskName) -> Result<Protection, RegistryError> {
        self.read(|connection| protection(connection, task))
    }

    /// Sets the rules of a task. Releases that are open keep what they were admitted by, but their
    /// promotion follows the new rules.
    pub fn protect(
        &self,
        task: &TaskName,
        rules: &Protection,
        change: Change<'_>,
    ) -> Result<Protection, RegistryError> {
        for signer in &rules.signers {
            VerifyingKey::from_pem(signer)?;
        }
        self.once(change, &("protect", task, rules), |transaction| {
            people::allow(transaction, change, &[Role::ReleaseManager], "protect a task")?;
            if protection(transaction, task)? != *rules {
                let record = ProtectionRecord {
                    task: task.clone(),
                    rules: rules.clone(),
                    owner: change.owner.to_owned(),
                    reason: change.reason.to_owned(),
                    at: change.now(),
                };
                let subject = task.as_str();
                fact::add(transaction, Action::Protect, Some(task), subject, &record, change)?;
            }
            Ok(rules.clone())
        })
    }
}

pub(crate) fn protection(
    connection: &Connection,
    task: &TaskName,
) -> Result<Protection, RegistryError> {
    let all: Vec<ProtectionRecord> = fact::about(connection, Action::Protect, task.as_str())?;
    Ok(all.into_iter().next_back().map(|record| record.rules).unwrap_or_default())
}
