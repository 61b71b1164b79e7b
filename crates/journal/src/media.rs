//! The bytes of media that messages refer to by their digest: once for each person they are of,
//! sealed with that person's key, and gone with it.

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use understudy_ident::Digest;

use crate::{
    JournalError,
    seal::{Holder, Key, Stored},
};

/// In place of a key, of media that are of nobody.
const NO_KEY: u64 = 0;

/// Some media and whose they are.
pub(crate) struct Media {
    pub(crate) subject: Option<String>,
    pub(crate) parts: Vec<(Digest, Vec<u8>)>,
}

pub(crate) fn keep(tx: &Transaction<'_>, media: &Media) -> rusqlite::Result<()> {
    let holder =
        media.subject.as_deref().map(|subject| Holder::subject(tx, subject)).transpose()?;
    let key = holder.map(|holder| Key::obtain(tx, &holder)).transpose()?;
    let number = key.as_ref().map_or(NO_KEY, |key| key.id);
    for (digest, bytes) in &media.parts {
        let name = digest.to_hex();
        let is_there = tx
            .prepare_cached("SELECT 1 FROM media WHERE digest = ?1 AND key = ?2")?
            .exists(params![name, number])?;
        if !is_there {
            let sealed = key.as_ref().map(|key| key.seal(0, &label(digest), bytes));
            let body = sealed.as_deref().unwrap_or(bytes);
            tx.prepare_cached("INSERT INTO media VALUES (?1, ?2, ?3)")?
                .execute(params![name, number, body])?;
        }
    }
    Ok(())
}

/// The bytes with this digest, whoever they are of: all have the same.
pub(crate) fn read(
    connection: &Connection,
    digest: &Digest,
) -> Result<Option<Vec<u8>>, JournalError> {
    let found = connection
        .prepare_cached(
            "SELECT body, nullif(key, 0), (SELECT bytes FROM keys WHERE id = media.key) FROM media
             WHERE digest = ?1 LIMIT 1",
        )
        .and_then(|mut query| {
            query
                .query_row([digest.to_hex()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                .optional()
        })
        .map_err(JournalError::read)?;
    let Some((body, key, secret)) = found else { return Ok(None) };
    let (body, key, secret): (Vec<u8>, Option<u64>, Option<Vec<u8>>) = (body, key, secret);
    let kind = label(digest);
    let bytes = Stored::sealed(&kind, &body, key, secret.as_deref()).body()?.into_owned();
    if Digest::of(&bytes) != *digest {
        let why = format!("the bytes kept as {digest} are others");
        return Err(JournalError::Unreadable { seq: 0, why });
    }
    Ok(Some(bytes))
}

/// Takes away what is a holder's, before its key goes.
pub(crate) fn forget(tx: &Transaction<'_>, holder: &Holder) -> rusqlite::Result<u64> {
    let gone = tx
        .prepare_cached("DELETE FROM media WHERE key = (SELECT id FROM keys WHERE holder = ?1)")?
        .execute([holder.as_str()])?;
    Ok(gone as u64)
}

/// What the seal binds the bytes to.
fn label(digest: &Digest) -> String {
    format!("media {digest}")
}
