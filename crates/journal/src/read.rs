//! Reading: single steps, arrivals for whoever follows the journal, and counts.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;
use understudy_ident::{TaskName, Timestamp};
use understudy_trajectory::{JudgedStep, Outcome, Step};

use crate::{
    JournalError,
    link::{entry, judge, step_of},
    pool::Pool,
    record::Entry,
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
    /// Outcomes whose target has not arrived.
    pub pending_outcomes: u64,
    /// Records that this version cannot read, and therefore leaves out everywhere else.
    pub unreadable: u64,
}

#[derive(Clone)]
pub(crate) struct Reader {
    pub(crate) pool: Arc<Pool>,
}

impl Reader {
    pub(crate) fn judged(&self, outcome: &Outcome) -> Result<Option<JudgedStep>, JournalError> {
        let connection = self.pool.lease()?;
        let until = watermark(&connection)?;
        let found = step_of(&connection, outcome, until)?;
        found.map(|seq| judged_at(&connection, seq, until)).transpose()
    }

    pub(crate) fn judged_step(&self, step: &Step) -> Result<JudgedStep, JournalError> {
        let found = self.judged_by("SELECT seq FROM steps WHERE id = ?1", step.id.as_str())?;
        Ok(found.unwrap_or_else(|| JudgedStep { step: step.clone(), outcomes: Vec::new() }))
    }

    pub(crate) fn step_by_response(&self, id: &str) -> Result<Option<JudgedStep>, JournalError> {
        self.judged_by(
            "SELECT seq FROM steps WHERE response_id = ?1 ORDER BY at_us, id LIMIT 1",
            id,
        )
    }

    pub(crate) fn follow(&self, after: u64, limit: usize) -> Result<Vec<Arrival>, JournalError> {
        let connection = self.pool.lease()?;
        let mut query = connection
            .prepare_cached("SELECT seq, kind, body FROM records WHERE seq > ?1 ORDER BY seq")
            .map_err(JournalError::read)?;
        let mut rows = query.query([after]).map_err(JournalError::read)?;
        let mut arrivals = Vec::new();
        while arrivals.len() < limit {
            let Some(row) = rows.next().map_err(JournalError::read)? else { break };
            match entry(row) {
                Ok((seq, entry)) => arrivals.push(Arrival { seq, entry }),
                // One bad record must not stop whoever follows for ever; the counts show it.
                Err(JournalError::Unreadable { .. }) => {}
                Err(error) => return Err(error),
            }
        }
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
                        (SELECT count(*) FROM outcomes WHERE pending = 1)",
                [],
                |row| {
                    let (records, steps, outcomes): (u64, u64, u64) =
                        (row.get(0)?, row.get(1)?, row.get(2)?);
                    let unreadable = records.saturating_sub(steps + outcomes);
                    let pending_outcomes = row.get(3)?;
                    Ok(Counts { records, steps, outcomes, pending_outcomes, unreadable })
                },
            )
            .map_err(JournalError::read)
    }

    pub(crate) fn watermark(&self) -> Result<u64, JournalError> {
        watermark(&*self.pool.lease()?)
    }

    fn judged_by(&self, sql: &str, name: &str) -> Result<Option<JudgedStep>, JournalError> {
        let connection = self.pool.lease()?;
        let until = watermark(&connection)?;
        let found: Option<u64> = connection
            .prepare_cached(sql)
            .and_then(|mut query| query.query_row([name], |row| row.get(0)).optional())
            .map_err(JournalError::read)?;
        // A step newer than `until` arrived between the two statements.
        let known = found.filter(|seq| *seq <= until);
        known.map(|seq| judged_at(&connection, seq, until)).transpose()
    }
}

/// Records count without gaps, so the last number is also how many there are.
pub(crate) fn watermark(connection: &Connection) -> Result<u64, JournalError> {
    connection
        .query_row("SELECT coalesce(max(seq), 0) FROM records", [], |row| row.get(0))
        .map_err(JournalError::read)
}

fn judged_at(connection: &Connection, seq: u64, until: u64) -> Result<JudgedStep, JournalError> {
    let step = step_at(connection, seq)?;
    let mut judged = judge(connection, vec![(seq, step)], until)?;
    Ok(judged.remove(0))
}

fn step_at(connection: &Connection, seq: u64) -> Result<Step, JournalError> {
    let mut query = connection
        .prepare_cached("SELECT seq, kind, body FROM records WHERE seq = ?1")
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
