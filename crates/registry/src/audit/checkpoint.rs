//! Checkpoints: the head of the chain, signed. One that was copied elsewhere shows a later cut or
//! rewriting to whoever has the public key, even when the database and its file were replaced.

use std::{fs, io, path::Path};

use rusqlite::{Connection, Transaction, params};
use understudy_signature::{Checkpoint, CheckpointKey, CheckpointPublicKey};

use super::{AuditHead, Link, head, verify};
use crate::{Registry, RegistryError};

/// A checkpoint is signed with the change that adds this many entries since the last one.
pub const CHECKPOINT_EVERY: u64 = 64;

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
        self.read(notes)
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

    /// The checkpoints in the database, by the key beside it; without a key they are not looked at,
    /// because nothing says whose they should be.
    pub(super) fn check_checkpoints(
        &self,
        connection: &Connection,
        links: &[Link],
    ) -> Result<(), RegistryError> {
        let Some(key) = &self.checkpoint_key else { return Ok(()) };
        for note in notes(connection)? {
            let noted = AuditHead::from_checkpoint(&note, &key.public())?;
            verify::contains(links, Some(&noted))?;
        }
        Ok(())
    }
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
    let sql = "SELECT coalesce(max(size), 0) FROM checkpoint";
    let last: i64 = transaction.query_row(sql, [], |row| row.get(0))?;
    if head(transaction)?.entries >= last as u64 + CHECKPOINT_EVERY {
        sign_head(transaction, key)?;
    }
    Ok(())
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

fn notes(connection: &Connection) -> Result<Vec<String>, RegistryError> {
    let mut statement = connection.prepare("SELECT note FROM checkpoint ORDER BY size")?;
    Ok(statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
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
