//! Reading: trajectories for the dataset builder, arrivals for the canary.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rusqlite::{Connection, params};
use serde::Serialize;
use understudy_ident::{TaskName, Timestamp, TrajectoryId};
use understudy_storage::sqlite;
use understudy_trajectory::{JudgedStep, Outcome, Step, Trajectory};

use crate::{
    JournalError,
    link::join,
    record::{Entry, target_key},
};

/// What to read.
#[derive(Debug, Clone, Default)]
pub struct Query {
    pub task: Option<TaskName>,
    /// Only trajectories with a step at or after this instant.
    pub since: Option<Timestamp>,
}

/// One record in the order of commits.
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
}

#[derive(Debug)]
pub(crate) struct Reader {
    connection: Mutex<Connection>,
}

impl Reader {
    pub(crate) fn open(path: &Path) -> Result<Self, JournalError> {
        let connection = sqlite::open_reader(path).map_err(JournalError::read)?;
        Ok(Self { connection: Mutex::new(connection) })
    }

    pub(crate) fn trajectories(&self, query: &Query) -> Result<Vec<Trajectory>, JournalError> {
        let connection = self.lock();
        let steps = bodies(
            &connection,
            "SELECT r.seq, r.kind, r.body FROM steps s JOIN records r ON r.seq = s.seq
             WHERE (?1 IS NULL OR s.task = ?1)
               AND (?2 IS NULL OR s.trajectory IN
                   (SELECT trajectory FROM steps WHERE at_ms >= ?2))
             ORDER BY s.trajectory, s.at_ms, s.id",
            params![
                query.task.as_ref().map(TaskName::as_str),
                query.since.map(Timestamp::as_millisecond),
            ],
        )?;
        let mut by_trajectory: BTreeMap<TrajectoryId, Vec<Step>> = BTreeMap::new();
        for step in steps.into_iter().filter_map(into_step) {
            by_trajectory.entry(step.trajectory.clone()).or_default().push(step);
        }
        by_trajectory
            .into_iter()
            .map(|(id, steps)| {
                let outcomes = outcomes_naming(&connection, &steps)?;
                Ok(Trajectory { id, steps: join(steps, outcomes) })
            })
            .collect()
    }

    pub(crate) fn judged(&self, outcome: &Outcome) -> Result<Option<JudgedStep>, JournalError> {
        let connection = self.lock();
        let (kind, target) = target_key(&outcome.target);
        let steps = bodies(
            &connection,
            "SELECT r.seq, r.kind, r.body FROM steps s JOIN records r ON r.seq = s.seq
             WHERE s.trajectory IN (
                 SELECT trajectory FROM steps WHERE (?1 = 1 AND response = ?2)
                     OR (?1 = 2 AND id = ?2) OR (?1 = 3 AND trajectory = ?2)
                     OR (?1 = 4 AND session = ?2))
             ORDER BY s.trajectory, s.at_ms, s.id",
            params![kind, target],
        )?;
        let steps: Vec<Step> = steps.into_iter().filter_map(into_step).collect();
        let outcomes = outcomes_naming(&connection, &steps)?;
        let judged = join(steps, outcomes);
        Ok(judged.into_iter().find(|step| step.outcomes.iter().any(|o| o.id == outcome.id)))
    }

    pub(crate) fn judged_step(&self, step: &Step) -> Result<JudgedStep, JournalError> {
        let connection = self.lock();
        let steps = bodies(
            &connection,
            "SELECT r.seq, r.kind, r.body FROM steps s JOIN records r ON r.seq = s.seq
             WHERE s.trajectory = ?1 ORDER BY s.at_ms, s.id",
            params![step.trajectory.as_str()],
        )?;
        let steps: Vec<Step> = steps.into_iter().filter_map(into_step).collect();
        let outcomes = outcomes_naming(&connection, &steps)?;
        let found = join(steps, outcomes).into_iter().find(|judged| judged.step.id == step.id);
        Ok(found.unwrap_or_else(|| JudgedStep { step: step.clone(), outcomes: Vec::new() }))
    }

    pub(crate) fn follow(&self, after: u64, limit: usize) -> Result<Vec<Arrival>, JournalError> {
        bodies(
            &self.lock(),
            "SELECT seq, kind, body FROM records WHERE seq > ?1 ORDER BY seq LIMIT ?2",
            params![after, limit as i64],
        )
    }

    pub(crate) fn counts(&self) -> Result<Counts, JournalError> {
        let connection = self.lock();
        let count = |sql: &str| -> Result<u64, JournalError> {
            connection.query_row(sql, [], |row| row.get(0)).map_err(JournalError::read)
        };
        Ok(Counts {
            records: count("SELECT count(*) FROM records")?,
            steps: count("SELECT count(*) FROM steps")?,
            outcomes: count("SELECT count(*) FROM outcomes")?,
            pending_outcomes: count(
                "SELECT count(*) FROM outcomes o WHERE NOT EXISTS (
                     SELECT 1 FROM steps s WHERE (o.target_kind = 1 AND s.response = o.target)
                         OR (o.target_kind = 2 AND s.id = o.target)
                         OR (o.target_kind = 3 AND s.trajectory = o.target)
                         OR (o.target_kind = 4 AND s.session = o.target))",
            )?,
        })
    }

    pub(crate) fn watermark(&self) -> Result<u64, JournalError> {
        self.lock()
            .query_row("SELECT coalesce(max(seq), 0) FROM records", [], |row| row.get(0))
            .map_err(JournalError::read)
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A reader that panicked leaves nothing half done.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Every outcome that names one of these steps, their trajectories or their sessions.
fn outcomes_naming(connection: &Connection, steps: &[Step]) -> Result<Vec<Outcome>, JournalError> {
    let mut names: Vec<&str> = steps
        .iter()
        .flat_map(|step| {
            [step.response_id.as_str(), step.id.as_str(), step.trajectory.as_str()]
                .into_iter()
                .chain(step.session.as_deref())
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    let mut found = Vec::new();
    for name in names {
        let arrivals = bodies(
            connection,
            "SELECT r.seq, r.kind, r.body FROM outcomes o JOIN records r ON r.seq = o.seq
             WHERE o.target = ?1",
            params![name],
        )?;
        found.extend(arrivals.into_iter().filter_map(|arrival| match arrival.entry {
            Entry::Outcome(outcome) => Some(outcome),
            Entry::Step(_) => None,
        }));
    }
    Ok(found)
}

fn into_step(arrival: Arrival) -> Option<Step> {
    match arrival.entry {
        Entry::Step(step) => Some(*step),
        Entry::Outcome(_) => None,
    }
}

fn bodies(
    connection: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
) -> Result<Vec<Arrival>, JournalError> {
    let mut query = connection.prepare_cached(sql).map_err(JournalError::read)?;
    let mut rows = query.query(params).map_err(JournalError::read)?;
    let mut arrivals = Vec::new();
    while let Some(row) = rows.next().map_err(JournalError::read)? {
        let raw = (|| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))();
        let (seq, kind, body): (u64, i64, Vec<u8>) =
            raw.map_err(|why: rusqlite::Error| JournalError::read(why))?;
        arrivals.push(Arrival { seq, entry: Entry::from_bytes(seq, kind, &body)? });
    }
    Ok(arrivals)
}
