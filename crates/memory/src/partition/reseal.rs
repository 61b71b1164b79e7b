//! Files of users from before these were sealed are sealed when they are opened.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior, params};

use super::{UserStore, connect, forget::scrub, place_of};
use crate::{
    Key, MemoryError, Settings,
    error::AttemptSql,
    seal::{MARK, Seal},
};

/// Every operation has a reason, so these tell of all texts.
const HAS_SEALED: &str = "SELECT EXISTS (SELECT 1 FROM operations WHERE reason GLOB ?)";
const HAS_CLEAR: &str = "SELECT EXISTS (SELECT 1 FROM operations WHERE reason NOT GLOB ?1 \
     UNION ALL SELECT 1 FROM forgotten WHERE reason NOT GLOB ?1)";
/// What holds texts, how those that are not sealed are found, and how each is replaced.
const TEXTS: [[&str; 3]; 5] = [
    [
        "body",
        "SELECT rowid, item, body FROM operations WHERE body NOT GLOB ?",
        "UPDATE operations SET body = ? WHERE rowid = ?",
    ],
    [
        "actor",
        "SELECT rowid, item, actor FROM operations WHERE actor NOT GLOB ?",
        "UPDATE operations SET actor = ? WHERE rowid = ?",
    ],
    [
        "reason",
        "SELECT rowid, item, reason FROM operations WHERE reason NOT GLOB ?",
        "UPDATE operations SET reason = ? WHERE rowid = ?",
    ],
    [
        "actor",
        "SELECT rowid, item, actor FROM forgotten WHERE actor NOT GLOB ?",
        "UPDATE forgotten SET actor = ? WHERE rowid = ?",
    ],
    [
        "reason",
        "SELECT rowid, item, reason FROM forgotten WHERE reason NOT GLOB ?",
        "UPDATE forgotten SET reason = ? WHERE rowid = ?",
    ],
];

impl UserStore {
    /// Opens a user's file, and makes the secret of its key with the file. One whose secret is gone
    /// stays closed: another secret would hide that for good.
    pub(crate) fn sealed(
        path: &Path,
        secret: &Path,
        key: Key,
        settings: Settings,
    ) -> Result<Self, MemoryError> {
        let mut connection = connect(path)?;
        let sealed = holds(&connection, HAS_SEALED).attempt_sql("read", path)?;
        if sealed && !secret.is_file() {
            return Err(MemoryError::Sealed { path: path.to_owned(), key: secret.to_owned() });
        }
        let seal = Seal::obtain(secret, &key)?;
        if holds(&connection, HAS_CLEAR).attempt_sql("read", path)? {
            close(&mut connection, &seal).attempt_sql("seal", path)?;
        }
        Self::of(path, connection, (key, Some((seal, secret.to_owned()))), settings)
    }
}

fn holds(connection: &Connection, statement: &str) -> rusqlite::Result<bool> {
    connection.query_row(statement, [sealed()], |row| row.get(0))
}

/// What sealed texts are like.
fn sealed() -> String {
    format!("{MARK}*")
}

/// Seals every text that is not yet, and leaves none of them in a freed page or in the log.
fn close(connection: &mut Connection, seal: &Seal) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch("DROP TRIGGER operations_stay")?;
    for [column, find, replace] in TEXTS {
        let rows: Vec<(i64, Option<String>, String)> = transaction
            .prepare(find)?
            .query_map([sealed()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<rusqlite::Result<_>>()?;
        for (row, item, text) in rows {
            let closed = seal.close(&place_of(column, item.as_deref()), &text);
            transaction.execute(replace, params![closed, row])?;
        }
    }
    transaction.execute_batch(
        "CREATE TRIGGER operations_stay BEFORE UPDATE ON operations \
         BEGIN SELECT RAISE(ABORT, 'operations are never rewritten'); END",
    )?;
    transaction.commit()?;
    scrub(connection)
}
