//! People's word on a version: approvals of its newest report, and its retirement.

use std::collections::BTreeSet;

use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use understudy_ident::{AdapterVersion, Digest, Timestamp};

use crate::{
    Adapter, Change, Registry, RegistryError, adapter, audit::Action, fact,
    lifecycle::VersionEvent, people, protection,
};

/// Somebody has read a report and wants its subject in production.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    pub version: AdapterVersion,
    /// Of the report that was approved; a newer report asks for new approvals.
    pub report: Digest,
    pub owner: String,
    pub reason: String,
    pub at: Timestamp,
}

/// How many people have approved a version, and how many must.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quorum {
    pub(crate) have: u32,
    pub(crate) need: u32,
}

#[derive(Debug, Serialize, Deserialize)]
struct Retirement {
    version: AdapterVersion,
    owner: String,
    reason: String,
    at: Timestamp,
}

impl Registry {
    /// Approves the newest report of a version. Nobody approves a version of their own, and
    /// approving twice counts once.
    pub fn approve(
        &self,
        version: &AdapterVersion,
        change: Change<'_>,
    ) -> Result<Adapter, RegistryError> {
        self.once(change, &("approve", version), |transaction| {
            let adapter = adapter::load(transaction, version)?;
            let event = VersionEvent::Approve;
            people::allow(transaction, change, event.transition().who, "approve")?;
            if adapter.record.owner == change.owner {
                let (version, owner) = (version.clone(), change.owner.to_owned());
                return Err(RegistryError::OwnVersion { version, owner });
            }
            let newest = adapter::newest_report(transaction, version)?;
            let approvals = current(transaction, version)?;
            if approvals.iter().any(|approval| approval.owner == change.owner) {
                return Ok(adapter);
            }
            // Of an approved version too, so that more people than must may sign.
            if adapter.status != crate::Status::Approved {
                adapter::expect(&adapter, event)?;
            }
            let Some(report) = newest else { return Ok(adapter) };
            let record = Approval {
                version: version.clone(),
                report: report.digest,
                owner: change.owner.to_owned(),
                reason: change.reason.to_owned(),
                at: change.now(),
            };
            let (task, subject) = (Some(&version.task), version.to_string());
            fact::add(transaction, Action::Approve, task, &subject, &record, change)?;
            adapter::load(transaction, version)
        })
    }

    /// The approvals of a version's newest report.
    pub fn approvals(&self, version: &AdapterVersion) -> Result<Vec<Approval>, RegistryError> {
        self.read(|connection| current(connection, version))
    }

    /// Takes a version out of use, without anything against it. Refused while it is in use.
    pub fn retire(
        &self,
        version: &AdapterVersion,
        change: Change<'_>,
    ) -> Result<Adapter, RegistryError> {
        self.once(change, &("retire", version), |transaction| {
            let adapter = adapter::load(transaction, version)?;
            if adapter.status == crate::Status::Retired {
                return Ok(adapter);
            }
            let event = VersionEvent::Retire;
            people::allow(transaction, change, event.transition().who, "retire a version")?;
            adapter::expect(&adapter, event)?;
            adapter::refuse_in_use(transaction, version, "retire")?;
            let record = Retirement {
                version: version.clone(),
                owner: change.owner.to_owned(),
                reason: change.reason.to_owned(),
                at: change.now(),
            };
            let (task, subject) = (Some(&version.task), version.to_string());
            fact::add(transaction, Action::Retire, task, &subject, &record, change)?;
            adapter::load(transaction, version)
        })
    }
}

pub(crate) fn is_retired(
    connection: &Connection,
    version: &AdapterVersion,
) -> Result<bool, RegistryError> {
    let retired: Vec<Retirement> = fact::about(connection, Action::Retire, &version.to_string())?;
    Ok(!retired.is_empty())
}

/// Whether enough people approved; at least one must have for a version to count as approved.
pub(crate) fn quorum(
    connection: &Connection,
    version: &AdapterVersion,
) -> Result<Quorum, RegistryError> {
    let people: BTreeSet<String> =
        current(connection, version)?.into_iter().map(|approval| approval.owner).collect();
    let need = protection::protection(connection, &version.task)?.approvals;
    Ok(Quorum { have: people.len() as u32, need })
}

fn current(
    connection: &Connection,
    version: &AdapterVersion,
) -> Result<Vec<Approval>, RegistryError> {
    let Some(newest) = adapter::newest_report(connection, version)? else { return Ok(Vec::new()) };
    let mut all: Vec<Approval> = fact::about(connection, Action::Approve, &version.to_string())?;
    all.retain(|approval| approval.report == newest.digest);
    Ok(all)
}
