//! The tables that say where to look, kept up to date in the transaction that adds the record.
//!
//! So a reader never finds the records ahead of the tables, and a full disk refuses both or neither.
//! It costs an append about a third of its time (`benches/append.rs`), far less than a second
//! transaction would. The stored offset is for everything else: a schema that changed, a rebuild.

use rusqlite::{Transaction, named_params, params};

use crate::record::{Entry, Names};

/// Enters record `seq` into the tables; entering it again changes nothing.
pub(crate) fn enter(tx: &Transaction<'_>, seq: u64, names: &Names) -> rusqlite::Result<()> {
    match names {
        Names::Step { id, response_id, trajectory, session, task, at_us } => {
            tx.prepare_cached("INSERT OR IGNORE INTO steps VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?
                .execute(params![seq, id, response_id, trajectory, session, task, at_us])?;
            let mut found = tx.prepare_cached(
                "UPDATE outcomes SET pending = 0
                 WHERE pending = 1 AND target = ?1 AND target_by = ?2",
            )?;
            found.execute([response_id.as_str(), "response"])?;
            found.execute([id.as_str(), "step"])?;
            found.execute([trajectory.as_str(), "trajectory"])?;
            if let Some(session) = session {
                found.execute([session.as_str(), "session"])?;
            }
        }
        Names::Outcome { id, by, target, at_us } => {
            tx.prepare_cached(
                "INSERT OR IGNORE INTO outcomes
                 SELECT :seq, :id, :by, :target, :at_us, NOT CASE :by
                     WHEN 'response' THEN EXISTS (SELECT 1 FROM steps WHERE response_id = :target)
                     WHEN 'step' THEN EXISTS (SELECT 1 FROM steps WHERE id = :target)
                     WHEN 'trajectory' THEN EXISTS (SELECT 1 FROM steps WHERE trajectory = :target)
                     ELSE EXISTS (SELECT 1 FROM steps WHERE session = :target) END",
            )?
            .execute(named_params! {
                ":seq": seq, ":id": id, ":by": by, ":target": target, ":at_us": at_us,
            })?;
        }
    }
    tx.prepare_cached("UPDATE progress SET seq = ?1")?.execute([seq])?;
    Ok(())
}

/// Enters every record the tables do not have yet.
pub(crate) fn catch_up(tx: &Transaction<'_>) -> rusqlite::Result<()> {
    let mut missing = tx.prepare_cached(
        "SELECT seq, kind, body FROM records WHERE seq > (SELECT seq FROM progress) ORDER BY seq",
    )?;
    let mut rows = missing.query([])?;
    let mut last = None;
    while let Some(row) = rows.next()? {
        let seq: u64 = row.get(0)?;
        let (kind, body) = (row.get_ref(1)?.as_str()?, row.get_ref(2)?.as_blob()?);
        // What this version cannot read must not hide what follows; it shows up in the counts.
        if let Ok(entry) = Entry::decode(seq, kind, body) {
            enter(tx, seq, &Names::of(&entry))?;
        }
        last = Some(seq);
    }
    if let Some(seq) = last {
        tx.execute("UPDATE progress SET seq = ?1", [seq])?;
    }
    Ok(())
}

/// Makes the tables anew from the records. Readers see the old ones until the transaction ends.
pub(crate) fn rebuild(tx: &Transaction<'_>) -> rusqlite::Result<()> {
    tx.execute_batch("DELETE FROM steps; DELETE FROM outcomes; UPDATE progress SET seq = 0")?;
    catch_up(tx)
}
