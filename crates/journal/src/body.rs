//! Raw bodies of telemetry, one row a request, as they were received and before anybody read them.

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use understudy_ident::{Digest, TaskName, Timestamp};

use crate::{Appended, JournalError, record::compress};

/// The body of one request, unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawBody {
    /// The task its calls are counted to. Bodies of different tasks are never read together.
    pub task: TaskName,
    /// What it is, as its path told: `otlp-traces`, say.
    pub payload: String,
    pub content_type: String,
    pub body: Vec<u8>,
}

/// A body and what the journal knows about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBody {
    /// Counts 1, 2, 3, … without gaps, apart from the numbers of records.
    pub seq: u64,
    pub received_at: Timestamp,
    /// Of what was sent, unpacked. It stays when the content is expired.
    pub digest: String,
    /// `None` once it is expired.
    pub raw: Option<RawBody>,
}

/// What a body is found by.
#[derive(Debug)]
pub(crate) struct Label {
    task: String,
    payload: String,
    content_type: String,
    pub(crate) digest: String,
    bytes: usize,
}

impl RawBody {
    /// Done on the caller's thread, because it is most of the work.
    pub(crate) fn pack(&self) -> Result<(Label, Vec<u8>), JournalError> {
        let digest = Digest::of(&self.body).to_hex();
        let packed = compress(&self.body).map_err(|why| {
            let (id, why) = (digest.clone(), why.to_string());
            JournalError::Unstorable { id, why }
        })?;
        let label = Label {
            task: self.task.to_string(),
            payload: self.payload.clone(),
            content_type: self.content_type.clone(),
            digest,
            bytes: self.body.len(),
        };
        Ok((label, packed))
    }
}

pub(crate) fn enter(
    tx: &Transaction<'_>,
    label: &Label,
    packed: &[u8],
    received_at_ms: i64,
) -> rusqlite::Result<Appended> {
    let Label { task, payload, content_type, digest, bytes } = label;
    let known: Option<u64> = tx
        .prepare_cached(
            "SELECT seq FROM bodies
             WHERE digest = ?1 AND task = ?2 AND payload = ?3",
        )?
        .query_row(params![digest, task, payload], |row| row.get(0))
        .optional()?;
    if let Some(seq) = known {
        return Ok(Appended { seq, duplicate: true });
    }
    let seq: u64 = tx
        .prepare_cached("SELECT coalesce(max(seq), 0) + 1 FROM bodies")?
        .query_row([], |row| row.get(0))?;
    tx.prepare_cached("INSERT INTO bodies VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?.execute(
        params![seq, received_at_ms, task, payload, content_type, digest, *bytes as u64, packed],
    )?;
    Ok(Appended { seq, duplicate: false })
}

pub(crate) fn expire(
    connection: &Connection,
    before: Timestamp,
    only_read: bool,
) -> rusqlite::Result<usize> {
    connection.execute(
        "UPDATE bodies SET body = NULL WHERE received_at_ms < ?1 AND body IS NOT NULL
         AND (NOT ?2 OR seq <= (SELECT coalesce(max(body), 0) FROM reading))",
        params![before.as_millisecond(), only_read],
    )
}

pub(crate) const ANY_FORGOTTEN: &str =
    "SELECT EXISTS (SELECT 1 FROM bodies INDEXED BY bodies_expired WHERE body IS NULL)";

pub(crate) fn is_any_forgotten(connection: &Connection) -> Result<bool, JournalError> {
    let forgotten = || connection.prepare_cached(ANY_FORGOTTEN)?.query_row([], |row| row.get(0));
    forgotten().map_err(JournalError::read)
}

pub(crate) fn read(
    connection: &Connection,
    after: u64,
    limit: usize,
) -> Result<Vec<StoredBody>, JournalError> {
    let mut query = connection
        .prepare_cached(
            "SELECT seq, received_at_ms, digest, task, payload, content_type, body
             FROM bodies WHERE seq > ?1 ORDER BY seq LIMIT ?2",
        )
        .map_err(JournalError::read)?;
    let mut rows = query.query(params![after, limit as i64]).map_err(JournalError::read)?;
    let mut bodies = Vec::new();
    while let Some(row) = rows.next().map_err(JournalError::read)? {
        bodies.push(stored(row)?);
    }
    Ok(bodies)
}

fn stored(row: &rusqlite::Row<'_>) -> Result<StoredBody, JournalError> {
    let read = JournalError::read;
    let seq: u64 = row.get(0).map_err(read)?;
    let unreadable = |why: String| JournalError::Unreadable { seq, why };
    let received_at = Timestamp::from_millisecond(row.get(1).map_err(read)?)
        .map_err(|why| unreadable(why.to_string()))?;
    let digest: String = row.get(2).map_err(read)?;
    let packed: Option<Vec<u8>> = row.get(6).map_err(read)?;
    let raw = match packed {
        None => None,
        Some(packed) => {
            let task: String = row.get(3).map_err(read)?;
            Some(RawBody {
                task: task.parse().map_err(|_| unreadable(format!("`{task}` is no task")))?,
                payload: row.get(4).map_err(read)?,
                content_type: row.get(5).map_err(read)?,
                body: zstd::stream::decode_all(packed.as_slice())
                    .map_err(|why| unreadable(why.to_string()))?,
            })
        }
    };
    Ok(StoredBody { seq, received_at, digest, raw })
}
