//! Bodies that can be forgotten: what is about a person is encrypted under a key of its own, and
//! without the key nobody reads it again, neither here nor in a copy of the records.
//!
//! A step belongs to its subject, an outcome to what it is about, because the subject of that may
//! not be known yet. Keys are drawn by SQLite from the operating system's randomness; names are kept
//! only as digests over the journal's secret.

use std::borrow::Cow;

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use rusqlite::{Connection, OptionalExtension, Row, Transaction};
use understudy_ident::Digest;

use crate::{JournalError, record::Names};

const NONCE: usize = 24;

/// Whose key seals a body: a digest over the journal's secret, so that the list of keys tells
/// nobody's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Holder(String);

impl Holder {
    pub(crate) fn subject(connection: &Connection, subject: &str) -> rusqlite::Result<Self> {
        Self::of(connection, "subject", subject)
    }

    /// Of everything that is said about one target.
    pub(crate) fn target(connection: &Connection, by: &str, name: &str) -> rusqlite::Result<Self> {
        Self::of(connection, by, name)
    }

    fn of(connection: &Connection, kind: &str, name: &str) -> rusqlite::Result<Self> {
        let secret: [u8; 32] = connection
            .prepare_cached("SELECT bytes FROM secret")?
            .query_row([], |row| row.get(0))?;
        let parts: [&[u8]; 3] = [&secret, kind.as_bytes(), name.as_bytes()];
        Ok(Self(Digest::of_parts(parts).to_hex()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whose a record is; `None` for what is about nobody.
pub(crate) fn holder(tx: &Transaction<'_>, names: &Names) -> rusqlite::Result<Option<Holder>> {
    match names {
        Names::Step { subject: Some(subject), .. } => Holder::subject(tx, subject).map(Some),
        Names::Outcome { by, target, .. } => Holder::target(tx, by, target).map(Some),
        Names::Step { subject: None, .. } | Names::Withdrawal { .. } | Names::Retraction { .. } => {
            Ok(None)
        }
    }
}

/// A key and its number.
pub(crate) struct Key {
    pub(crate) id: u64,
    bytes: [u8; 32],
}

impl Key {
    /// The holder's key, drawn if there is none.
    pub(crate) fn obtain(tx: &Transaction<'_>, holder: &Holder) -> rusqlite::Result<Self> {
        let read = |row: &Row<'_>| Ok(Self { id: row.get(0)?, bytes: row.get(1)? });
        let known = tx
            .prepare_cached("SELECT id, bytes FROM keys WHERE holder = ?1")?
            .query_row([holder.as_str()], read)
            .optional()?;
        if let Some(key) = known {
            return Ok(key);
        }
        tx.prepare_cached(
            "INSERT INTO keys (holder, bytes) VALUES (?1, randomblob(32)) RETURNING id, bytes",
        )?
        .query_row([holder.as_str()], read)
    }

    /// The body as it is stored. Its nonce follows from the key and all it is used for, so equal
    /// nonces mean equal contents, whatever a crash made of an earlier attempt.
    pub(crate) fn seal(&self, seq: u64, kind: &str, body: &[u8]) -> Vec<u8> {
        let parts: [&[u8]; 4] = [&self.bytes, &seq.to_le_bytes(), kind.as_bytes(), body];
        let nonce = &Digest::of_parts(parts).as_bytes()[..NONCE].to_owned();
        let label = label(seq, kind);
        let sealed = cipher(&self.bytes)
            .encrypt(&nonce_of(nonce), Payload { msg: body, aad: &label })
            .expect("a body is shorter than the cipher's limit of 256 GB");
        [nonce.as_slice(), &sealed].concat()
    }
}

/// A row of `seq, kind, body, key, secret`, as the view `readable` has it.
#[derive(Debug)]
pub(crate) struct Stored<'a> {
    pub(crate) seq: u64,
    pub(crate) kind: &'a str,
    body: &'a [u8],
    key: Option<u64>,
    secret: Option<&'a [u8]>,
}

impl<'a> Stored<'a> {
    pub(crate) fn of(row: &'a Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            seq: row.get(0)?,
            kind: row.get_ref(1)?.as_str()?,
            body: row.get_ref(2)?.as_blob()?,
            key: row.get(3)?,
            secret: row.get_ref(4)?.as_blob_or_null()?,
        })
    }

    /// What is kept beside the records, under a label of its own instead of a number.
    pub(crate) fn sealed(
        kind: &'a str,
        body: &'a [u8],
        key: Option<u64>,
        secret: Option<&'a [u8]>,
    ) -> Self {
        Self { seq: 0, kind, body, key, secret }
    }

    /// The body as it was before it was sealed.
    pub(crate) fn body(&self) -> Result<Cow<'a, [u8]>, JournalError> {
        let seq = self.seq;
        match (self.key, self.secret) {
            (None, _) if self.body.is_empty() => Err(JournalError::Erased { seq }),
            (None, _) => Ok(Cow::Borrowed(self.body)),
            (Some(_), None) => Err(JournalError::Erased { seq }),
            (Some(_), Some(secret)) => self.unseal(secret).map(Cow::Owned),
        }
    }

    fn unseal(&self, secret: &[u8]) -> Result<Vec<u8>, JournalError> {
        let unreadable =
            |why: &str| JournalError::Unreadable { seq: self.seq, why: why.to_owned() };
        let key = secret.try_into().map_err(|_| unreadable("its key has another length"))?;
        let (nonce, sealed) = self
            .body
            .split_at_checked(NONCE)
            .ok_or_else(|| unreadable("it is shorter than a sealed body can be"))?;
        let label = label(self.seq, self.kind);
        cipher(key)
            .decrypt(&nonce_of(nonce), Payload { msg: sealed, aad: &label })
            .map_err(|_| unreadable("its seal is broken: the body or its key was changed"))
    }
}

fn cipher(key: &[u8; 32]) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(key.into())
}

fn nonce_of(bytes: &[u8]) -> XNonce {
    let mut nonce = XNonce::default();
    nonce.copy_from_slice(bytes);
    nonce
}

/// What a body is bound to: under another number or kind it does not open.
fn label(seq: u64, kind: &str) -> Vec<u8> {
    [&seq.to_le_bytes()[..], kind.as_bytes()].concat()
}
