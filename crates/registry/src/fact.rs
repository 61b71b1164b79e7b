//! Facts: small records that are only ever added, by kind (the audit action that made them) and
//! subject. What holds now is read off the newest.

use rusqlite::{Connection, Transaction, params};
use serde::{Serialize, de::DeserializeOwned};
use understudy_ident::TaskName;
use understudy_manifest::canonical_json;

use crate::{
    Change, RegistryError,
    audit::{self, Action},
    registry::records,
};

pub(crate) fn add<T: Serialize>(
    transaction: &Transaction<'_>,
    action: Action,
    task: Option<&TaskName>,
    subject: &str,
    record: &T,
    change: Change<'_>,
) -> Result<(), RegistryError> {
    let text = canonical_json(record);
    transaction.execute(
        "INSERT INTO fact (kind, subject, record) VALUES (?1, ?2, ?3)",
        params![action.as_str(), subject, text],
    )?;
    audit::append(transaction, action, task, subject, text, change)
}

/// Everything of a kind about a subject, oldest first.
pub(crate) fn about<T: DeserializeOwned>(
    connection: &Connection,
    action: Action,
    subject: &str,
) -> Result<Vec<T>, RegistryError> {
    let sql = "SELECT record FROM fact WHERE kind = ?1 AND subject = ?2 ORDER BY seq";
    records(connection, sql, [action.as_str(), subject])
}

/// Everything of a kind, oldest first.
pub(crate) fn all<T: DeserializeOwned>(
    connection: &Connection,
    action: Action,
) -> Result<Vec<T>, RegistryError> {
    records(connection, "SELECT record FROM fact WHERE kind = ?1 ORDER BY seq", [action.as_str()])
}
