//! SQLite databases, opened with the project's settings and brought to the newest schema.

use std::{path::Path, time::Duration};

use rusqlite::{OpenFlags, TransactionBehavior, config::DbConfig};

pub use rusqlite::Connection;

use crate::{atomic, error::StorageError};

/// How long a writer waits for another one. Group commits take milliseconds, so whoever waits this
/// long waits for something that hangs, and should hear about it.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Statements a connection keeps ready. With fewer than it uses by turns, each is parsed again every
/// time, which takes longer than running it.
const STATEMENTS: usize = 128;

/// One forward step of a schema. Steps are never edited once released, and there is no way back:
/// a backup is.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// 1 for the first, then counting without gaps; what SQLite keeps as `user_version`.
    pub version: u32,
    /// Any number of statements, run in one transaction; must not begin or end one itself.
    pub sql: &'static str,
}

/// Opens a database for writing, creating it if there is none, and migrates it.
///
/// A returned connection commits durably: write-ahead log, `synchronous = FULL`. Foreign keys are
/// enforced. A database that a newer program migrated is refused, untouched.
pub fn open(path: &Path, migrations: &[Migration]) -> Result<Connection, StorageError> {
    check_order(migrations)?;
    atomic::create_dir(atomic::parent(path))?;
    let mut connection = Connection::open(path).attempt("open", path)?;
    keep_statements(&connection).attempt("configure", path)?;
    connection.busy_timeout(BUSY_TIMEOUT).attempt("configure", path)?;
    // Before anything is written, so that a refused database stays byte for byte as it was.
    refuse_newer(&connection, path, migrations)?;
    configure(&connection, path)?;
    migrate(&mut connection, path, migrations)?;
    connection.pragma_update(None, "foreign_keys", true).attempt("configure", path)?;
    // SQLite flushes its logs' names but leaves a new database's own to chance; and that it exists
    // already does not tell whether an earlier start came this far.
    atomic::sync(atomic::parent(path))?;
    Ok(connection)
}

/// Opens an existing database for reading beside its writer; any attempt to write fails.
pub fn open_reader(path: &Path) -> Result<Connection, StorageError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).attempt("open for reading", path)?;
    keep_statements(&connection).attempt("configure", path)?;
    connection.busy_timeout(BUSY_TIMEOUT).attempt("configure", path)?;
    // Opening alone reads nothing; asking for the schema finds out whether this is a database.
    schema_version(&connection).attempt("read", path)?;
    Ok(connection)
}

/// The schema version a database has reached; 0 for one that was never migrated.
pub fn schema_version(connection: &Connection) -> rusqlite::Result<u32> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// A statement that was planned stays so, whatever is bound to it: what SQLite might learn from the
/// values is worth less than parsing it again for each of them.
fn keep_statements(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

fn configure(connection: &Connection, path: &Path) -> Result<(), StorageError> {
    let mode: String = connection
        .pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))
        .attempt("configure", path)?;
    if mode != "wal" {
        return Err(StorageError::NoWriteAheadLog { path: path.to_owned(), mode });
    }
    connection
        .execute_batch(
            // `fullfsync` matters on macOS only, where a plain fsync stops at the disk's own cache.
            // Foreign keys are off until the migrations are through, because rebuilding a table
            // with them on would cascade its deletion.
            "PRAGMA synchronous = FULL;
             PRAGMA fullfsync = ON;
             PRAGMA checkpoint_fullfsync = ON;
             PRAGMA trusted_schema = OFF;
             PRAGMA foreign_keys = OFF;",
        )
        .attempt("configure", path)
}

fn migrate(
    connection: &mut Connection,
    path: &Path,
    migrations: &[Migration],
) -> Result<(), StorageError> {
    if schema_version(connection).attempt("read", path)? == newest(migrations) {
        return Ok(());
    }
    for migration in migrations {
        let version = migration.version;
        let failed = |source| StorageError::Migration { path: path.to_owned(), version, source };
        // `IMMEDIATE`, and the version read inside: two processes may open a new database at once.
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        refuse_newer(&transaction, path, migrations)?;
        if schema_version(&transaction).map_err(failed)? >= version {
            continue;
        }
        transaction.execute_batch(migration.sql).map_err(failed)?;
        let violations = dangling_references(&transaction).map_err(failed)?;
        if violations > 0 {
            let path = path.to_owned();
            return Err(StorageError::MigrationBreaksReferences { path, version, violations });
        }
        transaction.pragma_update(None, "user_version", version).map_err(failed)?;
        transaction.commit().map_err(failed)?;
    }
    Ok(())
}

fn dangling_references(connection: &Connection) -> rusqlite::Result<usize> {
    let mut check = connection.prepare("PRAGMA foreign_key_check")?;
    let mut rows = check.query([])?;
    let mut violations = 0;
    while rows.next()?.is_some() {
        violations += 1;
    }
    Ok(violations)
}

fn refuse_newer(
    connection: &Connection,
    path: &Path,
    migrations: &[Migration],
) -> Result<(), StorageError> {
    let found = schema_version(connection).attempt("read", path)?;
    let known = newest(migrations);
    if found > known {
        return Err(StorageError::DatabaseTooNew { path: path.to_owned(), found, known });
    }
    Ok(())
}

fn check_order(migrations: &[Migration]) -> Result<(), StorageError> {
    for (position, migration) in (1..).zip(migrations) {
        if migration.version as usize != position {
            return Err(StorageError::MigrationOrder { position, version: migration.version });
        }
    }
    Ok(())
}

fn newest(migrations: &[Migration]) -> u32 {
    migrations.last().map_or(0, |migration| migration.version)
}

/// Adds what was attempted, and on which database, to an error of SQLite.
trait Attempt<T> {
    fn attempt(self, attempt: &'static str, path: &Path) -> Result<T, StorageError>;
}

impl<T> Attempt<T> for rusqlite::Result<T> {
    fn attempt(self, attempt: &'static str, path: &Path) -> Result<T, StorageError> {
        self.map_err(|source| StorageError::Sqlite { attempt, path: path.to_owned(), source })
    }
}

#[cfg(test)]
mod tests;
