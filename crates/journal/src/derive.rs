//! The tables that say where to look, kept up to date in the transaction that adds the record.
//!
//! So a reader never finds the records ahead of the tables, and a full disk refuses both or neither.
//! It costs an append about a third of its time (`benches/append.rs`), far less than a second
//! transaction would. The stored offset is for everything else: a schema that changed, a rebuild.

use rusqlite::{Transaction, named_params, params};

use crate::{
    record::{Names, Record},
    seal::{Holder, Stored},
};

/// Enters record `seq` into the tables; entering it again changes nothing.
pub(crate) fn enter(tx: &Transaction<'_>, seq: u64, names: &Names) -> rusqlite::Result<()> {
    match names {
        Names::Step { id, response_id, trajectory, session, subject, task, at_us, origin } => {
            end(tx, seq, names)?;
            let holder = subject.as_deref().map(|name| Holder::subject(tx, name)).transpose()?;
            tx.prepare_cached(
                "INSERT OR IGNORE INTO steps VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, NULL, ?9)",
            )?
            .execute(params![
                seq,
                id,
                response_id,
                trajectory,
                session,
                task,
                at_us,
                origin,
                holder.as_ref().map(Holder::as_str)
            ])?;
            settle_pending(tx, names)?;
        }
        Names::Outcome { id, by, target, at_us, origin } => {
            end(tx, seq, names)?;
            tx.prepare_cached(
                "INSERT OR IGNORE INTO outcomes
                 SELECT :seq, :id, :by, :target, :at_us, NOT EXISTS (SELECT 1 FROM retractions WHERE id = :id)
                         AND NOT CASE :by
                     WHEN 'response' THEN EXISTS (
                         SELECT 1 FROM steps WHERE response_id = :target AND gone IS NULL)
                     WHEN 'step' THEN EXISTS (
                         SELECT 1 FROM steps WHERE id = :target AND gone IS NULL)
                     WHEN 'trajectory' THEN EXISTS (
                         SELECT 1 FROM steps WHERE trajectory = :target AND gone IS NULL)
                     ELSE EXISTS (SELECT 1 FROM steps WHERE session = :target AND gone IS NULL)
                     END, :origin,
                     (SELECT seq FROM retractions WHERE id = :id)",
            )?
            .execute(named_params! {
                ":seq": seq, ":id": id, ":by": by, ":target": target, ":at_us": at_us,
                ":origin": origin,
            })?;
        }
        Names::Retraction { id } => {
            tx.prepare_cached("INSERT OR IGNORE INTO retractions VALUES (?1, ?2)")?
                .execute(params![id, seq])?;
            tx.prepare_cached(
                "UPDATE outcomes SET gone = ?2, pending = 0 WHERE id = ?1 AND gone IS NULL",
            )?
            .execute(params![id, seq])?;
        }
        Names::Withdrawal { .. } => {
            end(tx, seq, names)?;
            tx.prepare_cached("INSERT OR IGNORE INTO withdrawals VALUES (?1)")?.execute([seq])?;
        }
    }
    Ok(())
}

/// Ends what record `seq` takes the place of: an account of the same id by telemetry.
fn end(tx: &Transaction<'_>, seq: u64, names: &Names) -> rusqlite::Result<()> {
    let (is_step, is_outcome) = match names {
        Names::Step { origin, .. } => (origin.is_some(), false),
        Names::Outcome { origin, .. } => (false, origin.is_some()),
        Names::Withdrawal { .. } => (true, true),
        Names::Retraction { .. } => (false, false),
    };
    let before = "id = ?1 AND seq < ?2 AND gone IS NULL AND origin IS NOT NULL";
    if is_outcome {
        let sql = format!("UPDATE outcomes SET gone = ?2, pending = 0 WHERE {before}");
        tx.prepare_cached(&sql)?.execute(params![names.id(), seq])?;
    }
    if !is_step {
        return Ok(());
    }
    let sql = format!(
        "UPDATE steps SET gone = ?2 WHERE {before} RETURNING response_id, id, trajectory, session"
    );
    let mut ending = tx.prepare_cached(&sql)?;
    let mut rows = ending.query(params![names.id(), seq])?;
    let mut left: Vec<(&str, &str, String)> = Vec::new();
    while let Some(row) = rows.next()? {
        left.push(("response", "response_id", row.get(0)?));
        left.push(("step", "id", row.get(1)?));
        left.push(("trajectory", "trajectory", row.get(2)?));
        let session: Option<String> = row.get(3)?;
        left.extend(session.map(|session| ("session", "session", session)));
    }
    // What was said about a step that is no more waits again, unless another one has its name.
    for (by, column, name) in left {
        let sql = format!(
            "UPDATE outcomes SET pending = 1 WHERE target = ?1 AND target_by = ?2 AND gone IS NULL
             AND NOT EXISTS (SELECT 1 FROM steps WHERE {column} = ?1 AND gone IS NULL)"
        );
        tx.prepare_cached(&sql)?.execute([name.as_str(), by])?;
    }
    Ok(())
}

/// Notes that the tables have everything up to record `seq`.
pub(crate) fn reached(tx: &Transaction<'_>, seq: u64) -> rusqlite::Result<()> {
    tx.prepare_cached("UPDATE progress SET seq = ?1")?.execute([seq])?;
    Ok(())
}

/// Outcomes that waited for this step wait no longer.
fn settle_pending(tx: &Transaction<'_>, step: &Names) -> rusqlite::Result<()> {
    let Names::Step { id, response_id, trajectory, session, .. } = step else { return Ok(()) };
    // Most of the time nothing waits for anything.
    if !tx.prepare_cached("SELECT 1 FROM outcomes WHERE pending = 1 LIMIT 1")?.exists([])? {
        return Ok(());
    }
    let mut settle = tx.prepare_cached(
        "UPDATE outcomes SET pending = 0 WHERE pending = 1 AND target = ?1 AND target_by = ?2",
    )?;
    settle.execute([response_id.as_str(), "response"])?;
    settle.execute([id.as_str(), "step"])?;
    settle.execute([trajectory.as_str(), "trajectory"])?;
    if let Some(session) = session {
        settle.execute([session.as_str(), "session"])?;
    }
    Ok(())
}

/// Enters every record the tables do not have yet.
pub(crate) fn catch_up(tx: &Transaction<'_>) -> rusqlite::Result<()> {
    let mut missing = tx.prepare_cached(
        "SELECT seq, kind, body, key, secret FROM readable WHERE seq > (SELECT seq FROM progress) ORDER BY seq",
    )?;
    let mut rows = missing.query([])?;
    let mut last = None;
    while let Some(row) = rows.next()? {
        let stored = Stored::of(row)?;
        let seq = stored.seq;
        // What this version cannot read must not hide what follows; it shows up in the counts.
        let record = stored.body().and_then(|body| Record::decode(seq, stored.kind, &body));
        if let Ok(record) = record {
            enter(tx, seq, &Names::of(&record))?;
        }
        last = Some(seq);
    }
    last.map_or(Ok(()), |seq| reached(tx, seq))
}

/// Makes the tables anew from the records. Readers see the old ones until the transaction ends.
pub(crate) fn rebuild(tx: &Transaction<'_>) -> rusqlite::Result<()> {
    tx.execute_batch(
        "DELETE FROM steps; DELETE FROM outcomes; DELETE FROM withdrawals; DELETE FROM retractions;
         UPDATE progress SET seq = 0",
    )?;
    catch_up(tx)
}
