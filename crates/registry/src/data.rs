//! Data that may not be used any more: whatever was trained on it is not released.

use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use understudy_ident::{AdapterVersion, DatasetVersion, Timestamp};

use crate::{
    Change, Registry, RegistryError, Role, adapter, adapter::AdapterRecord, audit::Action, fact,
    people, registry::records,
};

/// A dataset version that was found tainted, or rows of which were erased.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withdrawal {
    pub dataset: DatasetVersion,
    pub owner: String,
    pub reason: String,
    pub at: Timestamp,
}

impl Registry {
    /// Declares that nothing trained on a dataset version may reach users, neither itself nor
    /// through a version that training continued from. Returns the versions that this concerns, and
    /// none that only other withdrawals do; those that serve go on until somebody rolls them back.
    /// Withdrawing twice changes nothing.
    pub fn withdraw_data(
        &self,
        dataset: &DatasetVersion,
        change: Change<'_>,
    ) -> Result<Vec<AdapterVersion>, RegistryError> {
        self.once(change, &("withdraw data", dataset), |transaction| {
            let who = &[Role::Engineer, Role::ReleaseManager, Role::OnCall, Role::Controller];
            people::allow(transaction, change, who, "withdraw data")?;
            if withdrawal(transaction, dataset)?.is_none() {
                let record = Withdrawal {
                    dataset: dataset.clone(),
                    owner: change.owner.to_owned(),
                    reason: change.reason.to_owned(),
                    at: change.now(),
                };
                let subject = dataset.to_string();
                fact::add(transaction, Action::WithdrawData, None, &subject, &record, change)?;
            }
            trained_on(transaction, dataset)
        })
    }

    /// Every version that was trained on this dataset, itself or through a version that training
    /// continued from.
    pub fn trained_on(
        &self,
        dataset: &DatasetVersion,
    ) -> Result<Vec<AdapterVersion>, RegistryError> {
        self.read(|connection| trained_on(connection, dataset))
    }

    /// The withdrawn data that keeps a version from being released, if any does.
    pub fn tainted(&self, version: &AdapterVersion) -> Result<Option<Withdrawal>, RegistryError> {
        self.read(|connection| taint(connection, &adapter::load(connection, version)?.record))
    }
}

/// The first withdrawn dataset among those a version and its parents were trained on.
pub(crate) fn taint(
    connection: &Connection,
    record: &AdapterRecord,
) -> Result<Option<Withdrawal>, RegistryError> {
    for dataset in datasets(connection, record)? {
        if let Some(found) = withdrawal(connection, &dataset)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// What a version was trained on, then what the one it continued from was, and so on.
fn datasets(
    connection: &Connection,
    record: &AdapterRecord,
) -> Result<Vec<DatasetVersion>, RegistryError> {
    let task = &record.version.task;
    let (mut found, mut seen) = (Vec::new(), Vec::new());
    let mut next = Some(record.clone());
    while let Some(record) = next {
        // Lessons were never trained on rows.
        let Some(lineage) = record.lineage.adapter() else { break };
        found.push(lineage.dataset.version.clone());
        seen.push(record.generation);
        // A parent that is not registered cannot be looked up; one seen before is a forged circle.
        next = match lineage.parent.filter(|parent| !seen.contains(parent)) {
            Some(parent) => adapter::by_generation(connection, task, parent)?,
            None => None,
        };
    }
    Ok(found)
}

fn withdrawal(
    connection: &Connection,
    dataset: &DatasetVersion,
) -> Result<Option<Withdrawal>, RegistryError> {
    Ok(fact::about(connection, Action::WithdrawData, &dataset.to_string())?.pop())
}

fn trained_on(
    connection: &Connection,
    dataset: &DatasetVersion,
) -> Result<Vec<AdapterVersion>, RegistryError> {
    let sql = "SELECT record FROM adapter ORDER BY task, number";
    let mut found = Vec::new();
    for record in records::<AdapterRecord>(connection, sql, [])? {
        if datasets(connection, &record)?.contains(dataset) {
            found.push(record.version);
        }
    }
    Ok(found)
}
