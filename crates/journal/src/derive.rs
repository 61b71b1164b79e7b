//! The tables that say where to look, kept up to date in the transaction that adds the record.
//!
//! So a reader never finds the records ahead of the tables, and a full disk refuses both or neither.
//! It costs an append about a third of its time (`benches/append.rs`), far less than a second
//! transaction would. The stored offset is for everything else: a schema that changed, a rebuild.

use rusqlite::{Transaction, params};
use understudy_ident::{OutcomeId, TaskName, TenantName};

use crate::{
    link::{outcomes_of, tasks_of},
    record::{Names, Record, steps_called, turn_name},
    seal::{Holder, Stored},
};

/// Enters record `seq` into the tables; entering it again changes nothing.
pub(crate) fn enter(tx: &Transaction<'_>, seq: u64, names: &Names) -> rusqlite::Result<()> {
    match names {
        Names::Step {
            id,
            response_id,
            trajectory,
            session,
            turn,
            subject,
            task,
            at_us,
            origin,
        } => {
            end(tx, seq, names)?;
            let holder = subject.as_deref().map(|name| Holder::subject(tx, name)).transpose()?;
            tx.prepare_cached(
                "INSERT OR IGNORE INTO steps VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, NULL, ?9, ?10)",
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
                holder.as_ref().map(Holder::as_str),
                turn
            ])?;
            settle_pending(tx, names)?;
        }
        Names::Outcome { id, by, target, at_us, origin } => {
            end(tx, seq, names)?;
            let tenant = id.parse::<OutcomeId>().ok();
            let theirs = tasks_of(tenant.as_ref().and_then(OutcomeId::tenant));
            let called = steps_called(by);
            let sql = format!(
                "INSERT OR IGNORE INTO outcomes
                 SELECT ?2, ?3, ?4, ?1, ?5,
                     NOT EXISTS (SELECT 1 FROM retractions WHERE id = ?3) AND NOT EXISTS (
                         SELECT 1 FROM steps WHERE {called} AND gone IS NULL
                         AND (task GLOB ?7) = ?8),
                     ?6, (SELECT seq FROM retractions WHERE id = ?3)"
            );
            tx.prepare_cached(&sql)?.execute(params![
                target,
                seq,
                id,
                by,
                at_us,
                origin,
                theirs.like,
                theirs.is_like
            ])?;
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
        "UPDATE steps SET gone = ?2 WHERE {before} RETURNING response_id, id, trajectory, session, task, turn"
    );
    let mut ending = tx.prepare_cached(&sql)?;
    let mut rows = ending.query(params![names.id(), seq])?;
    let mut left: Vec<(&str, String, Option<TenantName>)> = Vec::new();
    while let Some(row) = rows.next()? {
        let tenant = tenant_of(&row.get::<_, String>(4)?);
        left.push(("response", row.get(0)?, tenant.clone()));
        left.push(("step", row.get(1)?, tenant.clone()));
        left.push(("trajectory", row.get(2)?, tenant.clone()));
        if let Some(session) = row.get::<_, Option<String>>(3)? {
            left.push(("turn", turn_name(&session, row.get(5)?), tenant.clone()));
            left.push(("session", session, tenant));
        }
    }
    // What was said about a step that is no more waits again, unless another one has its name.
    for (by, name, tenant) in left {
        let tenant = tenant.as_ref().map(TenantName::as_str);
        let (tasks, outcomes) = (tasks_of(tenant), outcomes_of(tenant));
        let called = steps_called(by);
        let sql = format!(
            "UPDATE outcomes SET pending = 1 WHERE target = ?1 AND target_by = ?2 AND gone IS NULL
             AND (id GLOB ?3) = ?4 AND NOT EXISTS (
                 SELECT 1 FROM steps WHERE {called} AND gone IS NULL AND (task GLOB ?5) = ?6)"
        );
        tx.prepare_cached(&sql)?.execute(params![
            name,
            by,
            outcomes.like,
            outcomes.is_like,
            tasks.like,
            tasks.is_like
        ])?;
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
    let Names::Step { id, response_id, trajectory, session, turn, task, .. } = step else {
        return Ok(());
    };
    // Most of the time nothing waits for anything.
    if !tx.prepare_cached("SELECT 1 FROM outcomes WHERE pending = 1 LIMIT 1")?.exists([])? {
        return Ok(());
    }
    let mut settle = tx.prepare_cached(
        "UPDATE outcomes SET pending = 0 WHERE pending = 1 AND target = ?1 AND target_by = ?2
         AND (id GLOB ?3) = ?4",
    )?;
    let tenant = tenant_of(task);
    let theirs = outcomes_of(tenant.as_ref().map(TenantName::as_str));
    let mut settle =
        |name: &str, by: &str| settle.execute(params![name, by, theirs.like, theirs.is_like]);
    settle(response_id, "response")?;
    settle(id, "step")?;
    settle(trajectory, "trajectory")?;
    if let Some(session) = session {
        settle(session, "session")?;
        settle(&turn_name(session, *turn), "turn")?;
    }
    Ok(())
}

fn tenant_of(task: &str) -> Option<TenantName> {
    task.parse::<TaskName>().ok().and_then(|task| task.tenant())
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
