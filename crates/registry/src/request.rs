//! Idempotency keys: a command that is sent twice, because its answer was lost, is carried out once.

use rusqlite::{OptionalExtension as _, Transaction, params};
use serde::{Serialize, de::DeserializeOwned};
use understudy_ident::Digest;
use understudy_manifest::{canonical_json, digest_json};

use crate::{Change, Registry, RegistryError};

/// How long an answer is kept.
const KEPT_MS: i64 = 24 * 60 * 60 * 1000;

impl Registry {
    /// Carries out a change as one commit; or, where its key has been used for the same question,
    /// returns what was answered then. `asked` is what makes the question the same.
    pub(crate) fn once<T: Serialize + DeserializeOwned>(
        &self,
        change: Change<'_>,
        asked: &impl Serialize,
        carry_out: impl FnOnce(&Transaction<'_>) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        change.check()?;
        self.write(|transaction| {
            let Some(key) = change.request else { return carry_out(transaction) };
            let asked = digest_json(&(change.owner, asked));
            let now = change.now().as_millisecond();
            transaction.execute("DELETE FROM request WHERE at_ms <= ?1", [now - KEPT_MS])?;
            if let Some(answer) = answered(transaction, key, asked)? {
                return Ok(serde_json::from_str(&answer)?);
            }
            let value = carry_out(transaction)?;
            transaction.execute(
                "INSERT INTO request (key, asked, answer, at_ms) VALUES (?1, ?2, ?3, ?4)",
                params![key, asked.to_hex(), canonical_json(&value), now],
            )?;
            Ok(value)
        })
    }
}

fn answered(
    transaction: &Transaction<'_>,
    key: &str,
    asked: Digest,
) -> Result<Option<String>, RegistryError> {
    let sql = "SELECT asked, answer FROM request WHERE key = ?1";
    let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get(1)?));
    match transaction.query_row(sql, [key], read).optional()? {
        None => Ok(None),
        Some((earlier, answer)) if earlier == asked.to_hex() => Ok(Some(answer)),
        Some(_) => Err(RegistryError::KeyReused { key: key.to_owned() }),
    }
}
