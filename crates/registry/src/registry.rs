//! The handle: one database connection and one directory of adapters.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rusqlite::{Connection, Transaction, TransactionBehavior};
use serde::de::DeserializeOwned;
use understudy_signature::CheckpointKey;
use understudy_storage::sqlite::{self, Migration};

use crate::{RegistryError, artifact, audit};

const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, sql: include_str!("schema_1.sql") },
    Migration { version: 2, sql: include_str!("schema_2.sql") },
];

/// Adapter versions, channels, releases and their audit chain. Shared freely between threads.
#[derive(Debug)]
pub struct Registry {
    connection: Mutex<Connection>,
    /// Version `N` of a task lies in `<adapters>/<task>/<N>/`.
    pub(crate) adapters: PathBuf,
    /// Signs the audit chain's checkpoints, where there is one.
    pub(crate) checkpoint_key: Option<CheckpointKey>,
}

impl Registry {
    /// Opens a registry, creating it where there is none: the database file and the directory that
    /// holds the adapters' files. A private Ed25519 key in `audit.pem` beside the database signs a
    /// checkpoint of the audit chain every [`CHECKPOINT_EVERY`](audit::CHECKPOINT_EVERY) entries, and
    /// [`CHECKPOINT_AFTER_S`](audit::CHECKPOINT_AFTER_S) seconds after the first that none has seen.
    pub fn open(catalog: &Path, adapters: &Path) -> Result<Self, RegistryError> {
        let connection = sqlite::open(catalog, MIGRATIONS)?;
        artifact::sweep(adapters)?;
        let checkpoint_key = audit::checkpoint_key(catalog)?;
        let adapters = adapters.to_owned();
        Ok(Self { connection: Mutex::new(connection), adapters, checkpoint_key })
    }

    /// A value that is another one after any change, by this process or another; asking is cheap.
    pub fn pulse(&self) -> Result<(i64, u64), RegistryError> {
        let connection = self.lock();
        // The first counts what other connections committed, the second what this one did.
        let others = connection.query_row("PRAGMA data_version", [], |row| row.get(0))?;
        Ok((others, connection.total_changes()))
    }

    /// Runs a change as one durable commit. The write lock is taken first, so what the change reads
    /// cannot be overtaken by another process.
    pub(crate) fn write<T>(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let mut connection = self.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let value = change(&transaction)?;
        if let Some(key) = &self.checkpoint_key {
            audit::checkpoint_when_due(&transaction, key)?;
        }
        transaction.commit()?;
        Ok(value)
    }

    /// Runs several reads on one snapshot.
    pub(crate) fn read<T>(
        &self,
        look: impl FnOnce(&Connection) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        look(&transaction)
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A thread that panicked in between has rolled its transaction back.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Every record a query yields, in its order; the record must be the first column.
pub(crate) fn records<T: DeserializeOwned>(
    connection: &Connection,
    sql: &str,
    parameters: impl rusqlite::Params,
) -> Result<Vec<T>, RegistryError> {
    let mut statement = connection.prepare_cached(sql)?;
    let texts = statement.query_map(parameters, |row| row.get::<_, String>(0))?;
    texts.map(|text| Ok(serde_json::from_str(&text?)?)).collect()
}

/// The first record a query yields, if any.
pub(crate) fn record<T: DeserializeOwned>(
    connection: &Connection,
    sql: &str,
    parameters: impl rusqlite::Params,
) -> Result<Option<T>, RegistryError> {
    Ok(records(connection, sql, parameters)?.into_iter().next())
}
