//! Forgetting a subject.
//!
//! The records stay where they are and as they are; the keys to them go. What names them in the
//! tables goes with the keys, and a row of `erased` says that something was there, so that the same
//! step is not taken in again.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde::Serialize;
use understudy_ident::Timestamp;
use understudy_trajectory::Target;

use crate::{
    JournalError,
    link::{outcome_of, step_of},
    media,
    record::turn_name,
    seal::Holder,
};

/// What was forgotten, this time and before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Erasure {
    /// Of the subject's name over the journal's secret: the name itself is not kept.
    pub subject: String,
    pub at: Timestamp,
    /// Ids of steps that are gone, those of earlier erasures of this subject included.
    pub steps: BTreeSet<String>,
    /// Outcomes that were about them.
    pub outcomes: u64,
    /// Raw bodies whose content went because parts of it were the subject's.
    pub bodies: u64,
    /// Images and other media that were theirs.
    pub media: u64,
}

/// What there is of a subject.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holdings {
    /// As an [`Erasure`] of it says who it was of.
    pub subject: String,
    /// Ids of its steps, superseded accounts included.
    pub steps: BTreeSet<String>,
    /// Ids of the responses in them.
    pub responses: BTreeSet<String>,
    pub outcomes: u64,
}

/// The records that are a subject's.
struct Found {
    /// Number, id and whose key seals it.
    steps: Vec<(u64, String)>,
    responses: BTreeSet<String>,
    outcomes: Vec<(u64, String, Holder)>,
}

pub(crate) fn holdings(connection: &Connection, subject: &str) -> Result<Holdings, JournalError> {
    let holder = Holder::subject(connection, subject).map_err(JournalError::read)?;
    let found = find(connection, &holder)?;
    Ok(Holdings {
        subject: holder.as_str().to_owned(),
        steps: found.steps.into_iter().map(|(_, id)| id).collect(),
        responses: found.responses,
        outcomes: found.outcomes.len() as u64,
    })
}

pub(crate) fn erase(
    tx: &Transaction<'_>,
    subject: &str,
    bodies: &[u64],
    at: Timestamp,
) -> Result<Erasure, JournalError> {
    let holder = Holder::subject(tx, subject).map_err(JournalError::write)?;
    let found = find(tx, &holder)?;
    let write = || -> rusqlite::Result<Erasure> {
        let erasure = enter(tx, &holder, at)?;
        for (seq, id) in &found.steps {
            forget(tx, *seq, id, "step", erasure)?;
        }
        for (seq, id, key) in &found.outcomes {
            forget(tx, *seq, id, "outcome", erasure)?;
            tx.prepare_cached("DELETE FROM keys WHERE holder = ?1")?.execute([key.as_str()])?;
        }
        let media = media::forget(tx, &holder)?;
        tx.execute("DELETE FROM keys WHERE holder = ?1", [holder.as_str()])?;
        let mut expire =
            tx.prepare("UPDATE bodies SET body = NULL WHERE seq = ?1 AND body IS NOT NULL")?;
        let mut expired = 0;
        for body in bodies {
            expired += expire.execute([body])? as u64;
        }
        Ok(Erasure {
            subject: holder.as_str().to_owned(),
            at,
            steps: ids(tx, &holder)?,
            outcomes: found.outcomes.len() as u64,
            bodies: expired,
            media,
        })
    };
    write().map_err(JournalError::write)
}

fn enter(tx: &Transaction<'_>, holder: &Holder, at: Timestamp) -> rusqlite::Result<u64> {
    tx.query_row(
        "INSERT INTO erasures (holder, at_ms) VALUES (?1, ?2) RETURNING id",
        params![holder.as_str(), at.as_millisecond()],
        |row| row.get(0),
    )
}

/// Takes a record off the tables that find it. One from before there were keys is emptied, which is
/// the only change the records' trigger allows.
fn forget(
    tx: &Transaction<'_>,
    seq: u64,
    id: &str,
    kind: &str,
    erasure: u64,
) -> rusqlite::Result<()> {
    tx.prepare_cached("INSERT OR IGNORE INTO erased VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![seq, id, kind, erasure])?;
    tx.prepare_cached("UPDATE records SET body = x'' WHERE seq = ?1 AND key IS NULL")?
        .execute([seq])?;
    tx.prepare_cached("DELETE FROM steps WHERE seq = ?1")?.execute([seq])?;
    tx.prepare_cached("DELETE FROM outcomes WHERE seq = ?1")?.execute([seq])?;
    Ok(())
}

/// Every step that was ever forgotten for this subject.
fn ids(tx: &Transaction<'_>, holder: &Holder) -> rusqlite::Result<BTreeSet<String>> {
    tx.prepare(
        "SELECT erased.id FROM erased JOIN erasures ON erasures.id = erased.erasure
         WHERE erasures.holder = ?1 AND erased.kind = 'step'",
    )?
    .query_map([holder.as_str()], |row| row.get(0))?
    .collect()
}

/// Whether something with this id was here and is forgotten, and under which number.
pub(crate) fn was_forgotten(tx: &Transaction<'_>, id: &str) -> rusqlite::Result<Option<u64>> {
    tx.prepare_cached("SELECT seq FROM erased WHERE id = ?1 ORDER BY seq LIMIT 1")?
        .query_row([id], |row| row.get(0))
        .optional()
}

fn find(connection: &Connection, holder: &Holder) -> Result<Found, JournalError> {
    let read = JournalError::read;
    let mut steps = Vec::new();
    let mut names: BTreeSet<(&str, String)> = BTreeSet::new();
    let mut query = connection
        .prepare_cached(
            "SELECT seq, id, response_id, trajectory, session, turn FROM steps WHERE subject = ?1",
        )
        .map_err(read)?;
    let mut rows = query.query([holder.as_str()]).map_err(read)?;
    while let Some(row) = rows.next().map_err(read)? {
        let id: String = row.get(1).map_err(read)?;
        names.insert(("step", id.clone()));
        names.insert(("response", row.get(2).map_err(read)?));
        names.insert(("trajectory", row.get(3).map_err(read)?));
        let session: Option<String> = row.get(4).map_err(read)?;
        if let Some(session) = session {
            names.insert(("turn", turn_name(&session, row.get(5).map_err(read)?)));
            names.insert(("session", session));
        }
        steps.push((row.get(0).map_err(read)?, id));
    }
    let own: BTreeSet<u64> = steps.iter().map(|(seq, _)| *seq).collect();
    let mut outcomes = Vec::new();
    for (by, name) in &names {
        let said = about(connection, by, name)?;
        let mut is_own = false;
        for (seq, _) in &said {
            is_own = is_own || is_about(connection, *seq, &own)?;
        }
        // They are sealed with one key, so they go together.
        if is_own {
            let holder = Holder::target(connection, by, name).map_err(read)?;
            outcomes.extend(said.into_iter().map(|(seq, id)| (seq, id, holder.clone())));
        }
    }
    let responses = names.into_iter().filter(|(by, _)| *by == "response").map(|(_, name)| name);
    Ok(Found { steps, responses: responses.collect(), outcomes })
}

/// The outcomes that name this target, withdrawn ones included.
fn about(
    connection: &Connection,
    by: &str,
    name: &str,
) -> Result<Vec<(u64, String)>, JournalError> {
    let find = || -> rusqlite::Result<Vec<_>> {
        connection
            .prepare_cached("SELECT seq, id FROM outcomes WHERE target_by = ?1 AND target = ?2")?
            .query_map([by, name], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect()
    };
    find().map_err(JournalError::read)
}

/// A session or trajectory may have gone on with somebody else: what was said of it belongs to the
/// step it stands for at that time.
fn is_about(connection: &Connection, seq: u64, own: &BTreeSet<u64>) -> Result<bool, JournalError> {
    let outcome = match outcome_of(connection, seq) {
        Err(JournalError::Erased { .. }) => return Ok(true),
        found => found?,
    };
    let is_exact = matches!(outcome.target, Target::Response(_) | Target::Step(_));
    let last = crate::read::watermark(connection)?;
    Ok(is_exact || step_of(connection, &outcome, last)?.is_some_and(|step| own.contains(&step)))
}
