//! Forgetting: every byte, not merely every row.

use rusqlite::{TransactionBehavior, params};

use super::{By, Inner, Partition};
use crate::{MemoryError, MemoryId, Text, error::AttemptSql};

impl<T: Text> Partition<T> {
    /// Whether a lesson was here and was forgotten.
    pub(crate) fn was_forgotten(&self, id: &MemoryId) -> Result<bool, MemoryError> {
        let inner = self.read()?;
        let sql = "SELECT EXISTS (SELECT 1 FROM forgotten WHERE item = ?)";
        let found = inner.connection.query_row(sql, [id.as_str()], |row| row.get(0));
        found.attempt_sql("read", &self.path)
    }

    /// Removes a lesson, its revisions and what was counted for it. That it was forgotten stays on
    /// record, by id.
    pub(crate) fn erase(&self, id: &MemoryId, by: &By) -> Result<(), MemoryError> {
        self.get(id, by.at)?;
        let actor = self.closed("actor", Some(id.as_str()), by.owner.clone());
        let reason = self.closed("reason", Some(id.as_str()), by.reason.clone());
        let mut inner = self.read()?;
        let Inner { connection, .. } = &mut *inner;
        (|| {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction.execute(
                "INSERT OR IGNORE INTO forgotten (item, at, actor, reason) VALUES (?, ?, ?, ?)",
                params![id.as_str(), by.at.to_string(), actor, reason],
            )?;
            transaction.execute("DELETE FROM events WHERE item = ?", [id.as_str()])?;
            transaction.execute("DELETE FROM operations WHERE item = ?", [id.as_str()])?;
            transaction.commit()?;
            scrub(connection)
        })()
        .attempt_sql("forget an item of", &self.path)?;
        drop(inner);
        // Folded anew: what was forgotten must not live on in memory either.
        self.read().map(|_| ())
    }
}

/// Moves the log into the database, rewrites the database without free pages, and empties the log
/// again: `VACUUM` itself writes through it.
pub(super) fn scrub(connection: &rusqlite::Connection) -> rusqlite::Result<()> {
    let checkpoint =
        || connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
    checkpoint()?;
    connection.execute_batch("VACUUM")?;
    match checkpoint()? {
        0 => Ok(()),
        // Somebody reads right now and holds the old pages: that must not pass for forgotten.
        _ => Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY),
            Some("a reader holds old pages; run forget again".to_owned()),
        )),
    }
}
