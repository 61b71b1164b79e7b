//! Keys at rest.

use std::{collections::BTreeMap, path::Path};

use blake3::Hash;
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};
use understudy_ident::Timestamp;
use understudy_storage::sqlite::{self, Migration};

use crate::{AccessError, KeyId, KeyRecord, Pepper, Revoked};

const MIGRATIONS: &[Migration] = &[Migration { version: 1, sql: include_str!("schema_1.sql") }];

/// A record, and the hash of the key it is of.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) record: KeyRecord,
    pub(crate) hash: Hash,
}

#[derive(Debug)]
pub(crate) struct Store(Connection);

impl Store {
    pub(crate) fn open(path: &Path) -> Result<Self, AccessError> {
        Ok(Self(sqlite::open(path, MIGRATIONS)?))
    }

    /// Changes whenever another connection has committed something.
    pub(crate) fn version(&self) -> Result<i64, AccessError> {
        Ok(self.0.pragma_query_value(None, "data_version", |row| row.get(0))?)
    }

    pub(crate) fn entries(&self) -> Result<BTreeMap<KeyId, Entry>, AccessError> {
        let mut query = self.0.prepare_cached(
            "SELECT key.record, hash, revocation.record, at_us FROM key
             LEFT JOIN revocation USING (id) LEFT JOIN used USING (id)",
        )?;
        let mut rows = query.query([])?;
        let mut entries = BTreeMap::new();
        while let Some(row) = rows.next()? {
            let hash: [u8; 32] = row.get(1)?;
            let mut record: KeyRecord = serde_json::from_str(&row.get::<_, String>(0)?)?;
            let revoked: Option<String> = row.get(2)?;
            record.revoked = revoked.as_deref().map(serde_json::from_str).transpose()?;
            let used: Option<i64> = row.get(3)?;
            record.last_used_at = used.and_then(|us| Timestamp::from_microsecond(us).ok());
            entries.insert(record.id.clone(), Entry { record, hash: hash.into() });
        }
        Ok(entries)
    }

    /// Whether keys were hashed with this pepper; `None` if there are none yet.
    pub(crate) fn knows(&self, pepper: &Pepper) -> Result<Option<bool>, AccessError> {
        let digest: Option<[u8; 32]> =
            self.0.query_row("SELECT digest FROM pepper", [], |row| row.get(0)).optional()?;
        Ok(digest.map(|digest| Hash::from(digest) == pepper.check()))
    }

    pub(crate) fn insert(&mut self, entry: &Entry, pepper: &Pepper) -> Result<(), AccessError> {
        let transaction = self.0.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute(
            "INSERT INTO pepper (one, digest) VALUES (1, ?1) ON CONFLICT DO NOTHING",
            params![pepper.check().as_bytes()],
        )?;
        let record = serde_json::to_string(&entry.record)?;
        transaction.execute(
            "INSERT INTO key (id, record, hash) VALUES (?1, ?2, ?3)",
            params![entry.record.id.as_str(), record, entry.hash.as_bytes()],
        )?;
        Ok(transaction.commit()?)
    }

    /// Whether it was not revoked before.
    pub(crate) fn revoke(&self, id: &KeyId, revoked: &Revoked) -> Result<bool, AccessError> {
        let changed = self.0.execute(
            "INSERT INTO revocation (id, record) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
            params![id.as_str(), serde_json::to_string(revoked)?],
        )?;
        Ok(changed > 0)
    }

    pub(crate) fn note_used(
        &mut self,
        used: &BTreeMap<KeyId, Timestamp>,
    ) -> Result<(), AccessError> {
        let transaction = self.0.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for (id, at) in used {
            transaction.execute(
                "INSERT INTO used (id, at_us) VALUES (?1, ?2)
                 ON CONFLICT DO UPDATE SET at_us = max(at_us, excluded.at_us)",
                params![id.as_str(), at.as_microsecond()],
            )?;
        }
        Ok(transaction.commit()?)
    }
}
