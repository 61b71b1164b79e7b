//! Reading: single steps, arrivals for whoever follows the journal, and counts.

use std::{collections::BTreeSet, sync::Arc};

use rusqlite::{Connection, OptionalExtension, ToSql, params};
use serde::Serialize;
use understudy_ident::{TaskName, Timestamp};
use understudy_trajectory::{JudgedStep, Outcome, Step, Target};

use crate::{
    JournalError,
    flush::Log,
    link::{HOLDS, Theirs, entry, judge, outcomes_of, step_of},
    pool::Pool,
    record::{Entry, target_names},
};

/// Which trajectories to read.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Only steps of this task. Outcomes keep the step they are about, whatever is left out.
    pub task: Option<TaskName>,
    /// Only trajectories with a step at or after this instant, but these whole.
    pub since: Option<Timestamp>,
    /// As things stood when this was the last record, so that a reading can be repeated.
    pub until_seq: Option<u64>,
}

/// One record, in the order of commits.
#[derive(Debug, Clone, PartialEq)]
pub struct Arrival {
    pub seq: u64,
    pub entry: Entry,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub records: u64,
    pub steps: u64,
    pub outcomes: u64,
    /// Accounts of telemetry that a later one took the place of, and whatever was taken back.
    pub superseded: u64,
    /// Records whose content was forgotten with whom it was about.
    pub erased: u64,
    /// Raw bodies of telemetry, expired ones included.
    pub bodies: u64,
    pub expired_bodies: u64,
    /// Outcomes whose target has not arrived.
    pub pending_outcomes: u64,
    /// Records that this version cannot read, and therefore leaves out everywhere else.
    pub unreadable: u64,
}

/// Two ranges of an index of what was told, each: unequal, or in the order of ids, it would be a walk
/// through everything there is, and whoever waits for telemetry asks all the time.
pub(crate) const TOLD_OTHERWISE: &str = "
    SELECT id FROM steps INDEXED BY steps_by_origin WHERE origin < ?1 AND gone IS NULL
    UNION ALL SELECT id FROM steps INDEXED BY steps_by_origin WHERE origin > ?1 AND gone IS NULL
    UNION ALL SELECT id FROM outcomes INDEXED BY outcomes_by_origin
        WHERE origin < ?1 AND gone IS NULL
    UNION ALL SELECT id FROM outcomes INDEXED BY outcomes_by_origin
        WHERE origin > ?1 AND gone IS NULL";

#[derive(Clone)]
pub(crate) struct Reader {
    pub(crate) pool: Arc<Pool>,
    pub(crate) log: Arc<Log>,
}

impl Reader {
    pub(crate) fn judged(&self, outcome: &Outcome) -> Result<Option<JudgedStep>, JournalError> {
        let connection = self.pool.lease()?;
        let until = watermark(&connection)?;
        let found = step_of(&connection, outcome, until)?;
        found.map(|seq| judged_at(&connection, seq, until)).transpose()
    }

    pub(crate) fn judged_step(&self, step: &Step) -> Result<JudgedStep, JournalError> {
        let found = self.judged_by("id = ?1", step.id.as_str())?;
        Ok(found.unwrap_or_else(|| JudgedStep { step: step.clone(), outcomes: Vec::new() }))
    }

    pub(crate) fn step_by_response(&self, id: &str) -> Result<Option<JudgedStep>, JournalError> {
        self.judged_by("response_id = ?1", id)
    }

    pub(crate) fn told_otherwise(&self, origin: &str) -> Result<Vec<String>, JournalError> {
        let connection = self.pool.lease()?;
        let find = || -> rusqlite::Result<Vec<String>> {
            let mut query = connection.prepare_cached(TOLD_OTHERWISE)?;
            let ids: rusqlite::Result<BTreeSet<String>> =
                query.query_map([origin], |row| row.get(0))?.collect();
            Ok(ids?.into_iter().collect())
        };
        find().map_err(JournalError::read)
    }

    pub(crate) fn told_among(&self, ids: &BTreeSet<String>) -> Result<Vec<String>, JournalError> {
        let connection = self.pool.lease()?;
        let mut holds = connection
            .prepare_cached(
                "SELECT EXISTS (
                     SELECT 1 FROM steps WHERE id = ?1 AND gone IS NULL AND origin IS NOT NULL)
                 OR EXISTS (
                     SELECT 1 FROM outcomes WHERE id = ?1 AND gone IS NULL AND origin IS NOT NULL)",
            )
            .map_err(JournalError::read)?;
        let mut told = Vec::new();
        for id in ids {
            if holds.query_row([id], |row| row.get(0)).map_err(JournalError::read)? {
                told.push(id.clone());
            }
        }
        Ok(told)
    }

    pub(crate) fn served(&self, response_id: &str) -> Result<Option<Step>, JournalError> {
        let connection = self.pool.lease()?;
        let found: Option<u64> = connection
            .prepare_cached(
                "SELECT seq FROM steps WHERE response_id = ?1 AND origin IS NULL
                 ORDER BY at_us, id LIMIT 1",
            )
            .and_then(|mut query| query.query_row([response_id], |row| row.get(0)).optional())
            .map_err(JournalError::read)?;
        found.map(|seq| step_at(&connection, seq)).transpose()
    }

    pub(crate) fn newest_served(
        &self,
        task: &TaskName,
        since: Timestamp,
        limit: usize,
    ) -> Result<Vec<Step>, JournalError> {
        let connection = self.pool.lease()?;
        let mut query = connection
            .prepare_cached(
                "SELECT seq, kind, body, key, secret FROM steps JOIN readable USING (seq)
                 WHERE task = ?1 AND at_us >= ?2 AND origin IS NULL AND gone IS NULL
                 ORDER BY seq DESC LIMIT ?3",
            )
            .map_err(JournalError::read)?;
        let mut rows = query
            .query(params![task.as_str(), since.as_microsecond(), limit as i64])
            .map_err(JournalError::read)?;
        let mut steps = Vec::new();
        while let Some(row) = rows.next().map_err(JournalError::read)? {
            match entry(row) {
                Ok((_, Entry::Step(step))) => steps.push(*step),
                // What nobody can read any more is no reason to have read nothing.
                Ok(_) | Err(JournalError::Unreadable { .. } | JournalError::Erased { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(steps)
    }

    pub(crate) fn said_of(&self, target: &Target) -> Result<Vec<Outcome>, JournalError> {
        let (by, name) = target_names(target);
        self.outcomes(
            "SELECT seq, kind, body, key, secret FROM outcomes JOIN readable USING (seq)
             WHERE target_by = ?1 AND target = ?2 AND gone IS NULL ORDER BY at_us, id",
            params![by, &*name],
        )
    }

    pub(crate) fn pending(&self, limit: usize) -> Result<Vec<Outcome>, JournalError> {
        self.outcomes(
            "SELECT seq, kind, body, key, secret FROM outcomes JOIN readable USING (seq)
             WHERE pending = 1 ORDER BY seq LIMIT ?1",
            params![limit as i64],
        )
    }

    /// How many outcomes of a tenant wait, and the first of them.
    pub(crate) fn pending_of(
        &self,
        tenant: Option<&str>,
        limit: usize,
    ) -> Result<(u64, Vec<Outcome>), JournalError> {
        let Theirs { like, is_like } = outcomes_of(tenant);
        let waiting = self.pool.lease()?.query_row(
            "SELECT count(*) FROM outcomes WHERE pending = 1 AND (id GLOB ?1) = ?2",
            params![like, is_like],
            |row| row.get(0),
        );
        let first = self.outcomes(
            "SELECT seq, kind, body, key, secret FROM outcomes JOIN readable USING (seq)
             WHERE pending = 1 AND (id GLOB ?1) = ?2 ORDER BY seq LIMIT ?3",
            params![like, is_like, limit as i64],
        )?;
        Ok((waiting.map_err(JournalError::read)?, first))
    }

    fn outcomes(&self, sql: &str, by: &[&dyn ToSql]) -> Result<Vec<Outcome>, JournalError> {
        let connection = self.pool.lease()?;
        let mut query = connection.prepare_cached(sql).map_err(JournalError::read)?;
        let mut rows = query.query(by).map_err(JournalError::read)?;
        let mut outcomes = Vec::new();
        while let Some(row) = rows.next().map_err(JournalError::read)? {
            if let (_, Entry::Outcome(outcome)) = entry(row)? {
                outcomes.push(outcome);
            }
        }
        Ok(outcomes)
    }

    pub(crate) fn secret(&self) -> Result<[u8; 32], JournalError> {
        self.pool
            .lease()?
            .query_row("SELECT bytes FROM secret", [], |row| row.get(0))
            .map_err(JournalError::read)
    }

    pub(crate) fn follow(&self, after: u64, limit: usize) -> Result<Vec<Arrival>, JournalError> {
        let connection = self.pool.lease()?;
        let mut query = connection
            .prepare_cached(
                "SELECT seq, kind, body, key, secret FROM readable WHERE seq > ?1 AND kind NOT IN ('withdrawal', 'retraction')
                 ORDER BY seq",
            )
            .map_err(JournalError::read)?;
        let mut rows = query.query([after]).map_err(JournalError::read)?;
        let mut arrivals = Vec::new();
        while arrivals.len() < limit {
            let Some(row) = rows.next().map_err(JournalError::read)? else { break };
            match entry(row) {
                Ok((seq, entry)) => arrivals.push(Arrival { seq, entry }),
                // One bad record must not stop whoever follows for ever; the counts show it.
                Err(JournalError::Unreadable { .. } | JournalError::Erased { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.log.settle(arrivals.last().map_or(0, |arrival| arrival.seq))?;
        Ok(arrivals)
    }

    pub(crate) fn judged_at(&self, arrival: &Arrival) -> Result<Option<JudgedStep>, JournalError> {
        let connection = self.pool.lease()?;
        let found = match &arrival.entry {
            Entry::Step(_) => Some(arrival.seq),
            Entry::Outcome(outcome) => step_of(&connection, outcome, arrival.seq)?,
        };
        found.map(|seq| judged_at(&connection, seq, arrival.seq)).transpose()
    }

    pub(crate) fn counts(&self) -> Result<Counts, JournalError> {
        // One statement, so that no commit comes between the numbers.
        self.pool
            .lease()?
            .query_row(
                "SELECT (SELECT coalesce(max(seq), 0) FROM records),
                        (SELECT count(*) FROM steps), (SELECT count(*) FROM outcomes),
                        (SELECT count(*) FROM outcomes WHERE pending = 1),
                        (SELECT count(*) FROM withdrawals) + (SELECT count(*) FROM retractions),
                        (SELECT count(*) FROM steps WHERE gone IS NOT NULL),
                        (SELECT count(*) FROM outcomes WHERE gone IS NOT NULL),
                        (SELECT coalesce(max(seq), 0) FROM bodies),
                        (SELECT count(*) FROM bodies WHERE body IS NULL),
                        (SELECT count(*) FROM erased)",
                [],
                |row| {
                    let (records, steps, outcomes): (u64, u64, u64) =
                        (row.get(0)?, row.get(1)?, row.get(2)?);
                    let withdrawals: u64 = row.get(4)?;
                    let erased: u64 = row.get(9)?;
                    let (old_steps, old_outcomes): (u64, u64) = (row.get(5)?, row.get(6)?);
                    Ok(Counts {
                        records,
                        steps: steps - old_steps,
                        outcomes: outcomes - old_outcomes,
                        pending_outcomes: row.get(3)?,
                        superseded: old_steps + old_outcomes,
                        bodies: row.get(7)?,
                        expired_bodies: row.get(8)?,
                        erased,
                        unreadable: records.saturating_sub(steps + outcomes + withdrawals + erased),
                    })
                },
            )
            .map_err(JournalError::read)
    }

    pub(crate) fn watermark(&self) -> Result<u64, JournalError> {
        // Whoever asks whether there is a journal to write to hears it even if nothing was written.
        self.log.check()?;
        let last = watermark(&*self.pool.lease()?)?;
        self.log.settle(last)?;
        Ok(last)
    }

    pub(crate) fn received_at(&self, seq: u64) -> Result<Option<Timestamp>, JournalError> {
        let connection = self.pool.lease()?;
        let at_ms: Option<i64> = connection
            .prepare_cached("SELECT received_at_ms FROM records WHERE seq = ?1")
            .and_then(|mut query| query.query_row([seq], |row| row.get(0)).optional())
            .map_err(JournalError::read)?;
        let unreadable = |why: String| JournalError::Unreadable { seq, why };
        let read =
            |at_ms| Timestamp::from_millisecond(at_ms).map_err(|why| unreadable(why.to_string()));
        at_ms.map(read).transpose()
    }

    fn judged_by(&self, named: &str, name: &str) -> Result<Option<JudgedStep>, JournalError> {
        let connection = self.pool.lease()?;
        let until = watermark(&connection)?;
        let sql =
            format!("SELECT seq FROM steps WHERE {named} AND {HOLDS} ORDER BY at_us, id LIMIT 1");
        let found: Option<u64> = connection
            .prepare_cached(&sql)
            .and_then(|mut query| {
                query.query_row(params![name, until], |row| row.get(0)).optional()
            })
            .map_err(JournalError::read)?;
        found.map(|seq| judged_at(&connection, seq, until)).transpose()
    }
}

/// Records count without gaps, so the last number is also how many there are.
pub(crate) fn watermark(connection: &Connection) -> Result<u64, JournalError> {
    connection
        .prepare_cached("SELECT coalesce(max(seq), 0) FROM records")
        .and_then(|mut last| last.query_row([], |row| row.get(0)))
        .map_err(JournalError::read)
}

fn judged_at(connection: &Connection, seq: u64, until: u64) -> Result<JudgedStep, JournalError> {
    let step = step_at(connection, seq)?;
    let mut judged = judge(connection, vec![(seq, step)], until)?;
    Ok(judged.remove(0))
}

fn step_at(connection: &Connection, seq: u64) -> Result<Step, JournalError> {
    let mut query = connection
        .prepare_cached("SELECT seq, kind, body, key, secret FROM readable WHERE seq = ?1")
        .map_err(JournalError::read)?;
    let mut rows = query.query(params![seq]).map_err(JournalError::read)?;
    let found = rows.next().map_err(JournalError::read)?.map(entry).transpose()?;
    match found {
        Some((_, Entry::Step(step))) => Ok(*step),
        Some((_, Entry::Outcome(_))) | None => {
            let why = "the table of steps names it, but it is none: rebuild the journal".to_owned();
            Err(JournalError::Unreadable { seq, why })
        }
    }
}
