//! Checkpoints: the head of the chain, signed. One that was copied elsewhere shows a later cut or
//! rewriting to whoever has the public key, even when the database and its file were replaced.

use std::{fs, io, path::Path};

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde::Serialize;
use understudy_ident::Timestamp;
use understudy_signature::{Checkpoint, CheckpointKey, CheckpointPublicKey, SignatureError};

use super::{AuditHead, Link, Tampering, head, verify};
use crate::{Registry, RegistryError};

/// A checkpoint is signed with the change that adds this many entries since the last one.
pub const CHECKPOINT_EVERY: u64 = 64;

/// And at the latest so many seconds after the first entry that no checkpoint has seen.
pub const CHECKPOINT_AFTER_S: i64 = 60;

/// Which log a checkpoint is about. The head is that of a chain of hashes, not of a tree.
const ORIGIN: &str = "understudy/registry-audit-chain";

/// Beside the registry's database.
const KEY_FILE: &str = "audit.pem";

impl Registry {
    /// Signs the head of the chain as it is now and keeps the note; asking again at the same length
    /// returns an equal note.
    pub fn checkpoint(&self, key: &CheckpointKey) -> Result<String, RegistryError> {
        self.write(|transaction| sign_head(transaction, key))
    }

    /// The key beside the database, if there is one.
    pub fn checkpoint_key(&self) -> Option<&CheckpointKey> {
        self.checkpoint_key.as_ref()
    }

    /// Every checkpoint that was signed, from the first.
    pub fn checkpoints(&self) -> Result<Vec<String>, RegistryError> {
        let notes = self.read(notes)?;
        Ok(notes.into_iter().map(|(_, note)| note).collect())
    }

    /// Makes sure that the chain still contains what a checkpoint saw.
    pub fn verify_checkpoint(
        &self,
        note: &str,
        key: &CheckpointPublicKey,
    ) -> Result<AuditHead, RegistryError> {
        let noted = AuditHead::from_checkpoint(note, key)?;
        self.verify_audit(Some(&noted))?;
        Ok(noted)
    }

    /// Signs the head where a key lies beside the database and an entry has waited for it for a minute.
    /// For whoever looks now and then: a change signs for itself, and after the last one nobody would.
    pub fn checkpoint_in_time(&self, now: Timestamp) -> Result<Option<String>, RegistryError> {
        let Some(key) = &self.checkpoint_key else { return Ok(None) };
        if !self.read(|connection| is_due(connection, now))? {
            return Ok(None);
        }
        self.write(|transaction| sign_head(transaction, key)).map(Some)
    }
}

/// The checkpoints in the database, each by one of these keys and of what the chain still contains;
/// without a key they are not looked at, because nothing says whose they should be.
pub(super) fn check(
    connection: &Connection,
    links: &[Link],
    keys: &[CheckpointPublicKey],
) -> Result<Vec<SignedHead>, RegistryError> {
    let mut signed = Vec::new();
    if keys.is_empty() {
        return Ok(signed);
    }
    for (entries, note) in notes(connection)? {
        let found = Checkpoint::key_id(&note)?;
        let Some(key) = keys.iter().find(|key| key.id(ORIGIN) == found) else {
            let known = keys.iter().map(|key| key.id(ORIGIN)).collect::<Vec<_>>().join(", ");
            return Err(RegistryError::Tampered(Tampering::StrangeKey { entries, found, known }));
        };
        let noted = match AuditHead::from_checkpoint(&note, key) {
            Err(RegistryError::Signature(SignatureError::Forged)) => {
                return Err(RegistryError::Tampered(Tampering::Forged { entries, key: found }));
            }
            noted => noted?,
        };
        verify::contains(links, Some(&noted))?;
        signed.push(SignedHead { entries: noted.entries, key: found });
    }
    Ok(signed)
}

/// A checkpoint that was found to be good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SignedHead {
    pub entries: u64,
    /// The id of the key, as the note has it.
    pub key: String,
}

impl AuditHead {
    /// What a checkpoint saw, once it is certain that `key` signed it.
    pub fn from_checkpoint(note: &str, key: &CheckpointPublicKey) -> Result<Self, RegistryError> {
        Ok(head_of(&Checkpoint::open(note, key)?))
    }
}

/// Reads the key beside a database, where there is one.
pub(crate) fn checkpoint_key(catalog: &Path) -> Result<Option<CheckpointKey>, RegistryError> {
    let path = catalog.with_file_name(KEY_FILE);
    match fs::read_to_string(&path) {
        Ok(pem) => Ok(Some(CheckpointKey::from_pem(&pem)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(RegistryError::Io { attempt: "read", path, source }),
    }
}

/// Signs the head if enough was added since it was signed last.
pub(crate) fn checkpoint_when_due(
    transaction: &Transaction<'_>,
    key: &CheckpointKey,
) -> Result<(), RegistryError> {
    // Of its own time a change says no more than when it was made.
    let sql = "SELECT at FROM audit ORDER BY seq DESC LIMIT 1";
    let newest: Option<String> = transaction.query_row(sql, [], |row| row.get(0)).optional()?;
    let now = newest.and_then(|at| at.parse().ok()).unwrap_or(Timestamp::UNIX_EPOCH);
    if is_due(transaction, now)? {
        sign_head(transaction, key)?;
    }
    Ok(())
}

/// Whether enough was added since the head was signed last, or long enough ago.
fn is_due(connection: &Connection, now: Timestamp) -> Result<bool, RegistryError> {
    let sql = "SELECT coalesce(max(size), 0) FROM checkpoint";
    let last: i64 = connection.query_row(sql, [], |row| row.get(0))?;
    if head(connection)?.entries >= last as u64 + CHECKPOINT_EVERY {
        return Ok(true);
    }
    let sql = "SELECT at FROM audit WHERE seq = ?1";
    let first: Option<String> = connection.query_row(sql, [last], |row| row.get(0)).optional()?;
    let first: Option<Timestamp> = first.and_then(|at| at.parse().ok());
    Ok(first.is_some_and(|first| now.as_second() - first.as_second() >= CHECKPOINT_AFTER_S))
}

fn sign_head(transaction: &Transaction<'_>, key: &CheckpointKey) -> Result<String, RegistryError> {
    let AuditHead { entries, hash } = head(transaction)?;
    let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size: entries, head: bytes(&hash) };
    let note = checkpoint.sign(key);
    transaction.execute(
        "INSERT OR IGNORE INTO checkpoint (size, note) VALUES (?1, ?2)",
        params![entries as i64, note],
    )?;
    Ok(note)
}

/// By how many entries they saw.
fn notes(connection: &Connection) -> Result<Vec<(u64, String)>, RegistryError> {
    let mut statement = connection.prepare("SELECT size, note FROM checkpoint ORDER BY size")?;
    let read = |row: &Row<'_>| Ok((row.get::<_, i64>(0)? as u64, row.get(1)?));
    Ok(statement.query_map([], read)?.collect::<rusqlite::Result<_>>()?)
}

fn head_of(checkpoint: &Checkpoint) -> AuditHead {
    let digits = checkpoint.head.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let hash = digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect();
    AuditHead { entries: checkpoint.size, hash }
}

/// A hash that was changed into something else is caught by the chain; here it is only no head.
fn bytes(hash: &str) -> [u8; 32] {
    let digit = |at: usize| hash.chars().nth(at).and_then(|c| c.to_digit(16)).unwrap_or(0) as u8;
    std::array::from_fn(|at| digit(2 * at) << 4 | digit(2 * at + 1))
}
