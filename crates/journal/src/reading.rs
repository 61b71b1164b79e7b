//! How far the raw bodies have been read, and which of them belong together: derived from them, and
//! made anew when they are read by other rules.

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use understudy_ident::Timestamp;

use crate::JournalError;

/// How far some reader has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The rules that read, `mapper@1` say: what they make of a body has this origin.
    pub mapper: String,
    /// The last body that everything follows from already.
    pub body: u64,
}

/// What a reader has before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unread {
    pub bodies: u64,
    /// When the first of them was received.
    pub oldest: Option<Timestamp>,
}

/// Rows of one transaction: some ten milliseconds of them, for which nobody's acknowledgement waits
/// long.
const ROWS: usize = 1024;

/// What a reader found out. Much of it is noted in several transactions, how far the reader has come
/// in the last: until then all of it may be noted again, which changes nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    /// By other rules than before, what was noted until now is forgotten first.
    pub mapper: String,
    /// Units, which are read as a whole, and bodies that hold parts of them.
    pub told_in: Vec<(String, u64)>,
    /// What units have in common with others, and the units.
    pub ties: Vec<(String, String)>,
    /// How far the reader has come with this; `None` if not further.
    pub body: Option<u64>,
}

impl Notes {
    /// The same, in parts of as many rows as one transaction may have.
    pub(crate) fn parts(self) -> Vec<Self> {
        let Self { mapper, told_in, ties, body } = self;
        let part = || Self { mapper: mapper.clone(), ..Self::default() };
        let told_in = told_in.chunks(ROWS).map(|rows| Self { told_in: rows.to_vec(), ..part() });
        let ties = ties.chunks(ROWS).map(|rows| Self { ties: rows.to_vec(), ..part() });
        let mut parts: Vec<Self> = told_in.chain(ties).collect();
        match parts.last_mut() {
            Some(last) => last.body = body,
            None => parts.push(Self { body, ..part() }),
        }
        parts
    }
}

pub(crate) fn note(tx: &Transaction<'_>, notes: &Notes) -> rusqlite::Result<()> {
    if at(tx)?.is_none_or(|reading| reading.mapper != notes.mapper) {
        tx.execute_batch("DELETE FROM told_in; DELETE FROM ties; DELETE FROM reading")?;
        tx.execute("INSERT INTO reading VALUES (0, ?1, 0)", [&notes.mapper])?;
    }
    let mut told_in = tx.prepare_cached("INSERT OR IGNORE INTO told_in VALUES (?1, ?2)")?;
    for (unit, body) in &notes.told_in {
        told_in.execute(params![unit, body])?;
    }
    let mut ties = tx.prepare_cached("INSERT OR IGNORE INTO ties VALUES (?1, ?2)")?;
    for (tie, unit) in &notes.ties {
        ties.execute([tie, unit])?;
    }
    if let Some(body) = notes.body {
        tx.execute("UPDATE reading SET body = ?1", [body])?;
    }
    Ok(())
}

pub(crate) fn at(connection: &Connection) -> rusqlite::Result<Option<Reading>> {
    let read = |row: &rusqlite::Row<'_>| Ok(Reading { mapper: row.get(0)?, body: row.get(1)? });
    connection.query_row("SELECT mapper, body FROM reading", [], read).optional()
}

pub(crate) fn unread(connection: &Connection) -> Result<Unread, JournalError> {
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get::<_, Option<i64>>(1)?));
    let (bodies, oldest) = connection
        .query_row(
            "SELECT count(*), min(received_at_ms) FROM bodies
             WHERE seq > (SELECT coalesce(max(body), 0) FROM reading)",
            [],
            read,
        )
        .map_err(JournalError::read)?;
    let oldest = oldest.and_then(|at| Timestamp::from_millisecond(at).ok());
    Ok(Unread { bodies, oldest })
}

pub(crate) fn bodies_of(connection: &Connection, unit: &str) -> Result<Vec<u64>, JournalError> {
    let find = || -> rusqlite::Result<Vec<u64>> {
        connection
            .prepare_cached("SELECT body FROM told_in WHERE unit = ?1 ORDER BY body")?
            .query_map([unit], |row| row.get(0))?
            .collect()
    };
    find().map_err(JournalError::read)
}

pub(crate) fn tied_to(connection: &Connection, unit: &str) -> Result<Vec<String>, JournalError> {
    let find = || -> rusqlite::Result<Vec<String>> {
        connection
            .prepare_cached(
                "SELECT DISTINCT other.unit FROM ties AS own JOIN ties AS other USING (tie)
                 WHERE own.unit = ?1 ORDER BY other.unit",
            )?
            .query_map([unit], |row| row.get(0))?
            .collect()
    };
    find().map_err(JournalError::read)
}

pub(crate) fn units_tied_by(
    connection: &Connection,
    tie: &str,
) -> Result<Vec<String>, JournalError> {
    let find = || -> rusqlite::Result<Vec<String>> {
        connection
            .prepare_cached("SELECT unit FROM ties WHERE tie = ?1 ORDER BY unit")?
            .query_map([tie], |row| row.get(0))?
            .collect()
    };
    find().map_err(JournalError::read)
}
