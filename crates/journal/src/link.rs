//! Which step an outcome is about.
//!
//! Worked out whenever it is asked for, from the first `until` records, and independent of the order
//! in which they came. So an outcome may precede its target, a step that arrives late may take over
//! an outcome, and what was known at an earlier record can be asked again with the same answer.

use std::{borrow::Cow, collections::BTreeMap};

use rusqlite::{Connection, OptionalExtension, params};
use understudy_trajectory::{JudgedStep, Outcome, Step, Target};

use crate::{
    JournalError,
    record::{Entry, steps_called, target_names, turn_name},
    seal::Stored,
};

/// Whether a row held at record `?2`.
pub(crate) const HOLDS: &str = "seq <= ?2 AND (gone IS NULL OR gone > ?2)";

/// The record of the step that `outcome` is about; `None` while it is pending.
///
/// A trajectory, session or turn stands for its last step at the time of the outcome, or for its first
/// when it had not begun. Equal times are told apart by id. Steps of another tenant than the
/// outcome's are not meant, whatever they are called.
pub(crate) fn step_of(
    connection: &Connection,
    outcome: &Outcome,
    until: u64,
) -> Result<Option<u64>, JournalError> {
    let (by, target) = target_names(&outcome.target);
    let called = steps_called(by);
    let theirs = tasks_of(outcome.id.tenant());
    let find = |then: &str, at_us: i64| {
        let sql = format!(
            "SELECT seq FROM steps WHERE {called} AND {HOLDS} AND (task GLOB ?4) = ?5 AND {then}"
        );
        let mut query = connection.prepare_cached(&sql)?;
        let found = params![&*target, until, at_us, theirs.like, theirs.is_like];
        query.query_row(found, |row| row.get(0)).optional()
    };
    let first_after = |at_us| find("at_us > ?3 ORDER BY at_us, id LIMIT 1", at_us);
    let last_until = |at_us| find("at_us <= ?3 ORDER BY at_us DESC, id DESC LIMIT 1", at_us);
    let at_us = outcome.at.as_microsecond();
    let found = match &outcome.target {
        Target::Response(_) | Target::Step(_) => first_after(i64::MIN),
        Target::Trajectory(_) | Target::Session(_) | Target::Turn { .. } => match last_until(at_us)
        {
            Ok(None) => first_after(at_us),
            found => found,
        },
    };
    found.map_err(JournalError::read)
}

/// What the names of one tenant's things look like, or do not.
pub(crate) struct Theirs {
    pub(crate) like: String,
    pub(crate) is_like: bool,
}

/// The tasks of a tenant, or of whoever runs the server.
pub(crate) fn tasks_of(tenant: Option<&str>) -> Theirs {
    match tenant {
        Some(tenant) => Theirs { like: format!("{tenant}.*"), is_like: true },
        None => Theirs { like: "*.*".to_owned(), is_like: false },
    }
}

/// The ids of a tenant's outcomes, likewise.
pub(crate) fn outcomes_of(tenant: Option<&str>) -> Theirs {
    match tenant {
        Some(tenant) => Theirs { like: format!("out_{tenant}.*"), is_like: true },
        None => Theirs { like: "out_[a-z]*.*".to_owned(), is_like: false },
    }
}

/// Joins steps, given with their record numbers, with everything said about them; order is kept.
pub(crate) fn judge(
    connection: &Connection,
    steps: Vec<(u64, Step)>,
    until: u64,
) -> Result<Vec<JudgedStep>, JournalError> {
    let mut said: BTreeMap<u64, Vec<Outcome>> =
        steps.iter().map(|(seq, _)| (*seq, Vec::new())).collect();
    for outcome in outcomes_naming(connection, &steps, until)? {
        // A session may have gone on in a trajectory that is not among these.
        let about = step_of(connection, &outcome, until)?;
        if let Some(outcomes) = about.and_then(|seq| said.get_mut(&seq)) {
            outcomes.push(outcome);
        }
    }
    let judged = steps.into_iter().map(|(seq, step)| {
        let mut outcomes = said.remove(&seq).unwrap_or_default();
        outcomes.sort_by(|a, b| (a.at, &a.id).cmp(&(b.at, &b.id)));
        JudgedStep { step, outcomes }
    });
    Ok(judged.collect())
}

/// Every outcome that names one of these steps, their trajectories, sessions or turns, once.
fn outcomes_naming(
    connection: &Connection,
    steps: &[(u64, Step)],
    until: u64,
) -> Result<Vec<Outcome>, JournalError> {
    let mut names: Vec<(&str, Cow<'_, str>)> = Vec::with_capacity(5 * steps.len());
    for (_, step) in steps {
        names.push(("response", step.response_id.as_str().into()));
        names.push(("step", step.id.as_str().into()));
        names.push(("trajectory", step.trajectory.as_str().into()));
        if let Some(session) = step.session.as_deref() {
            names.push(("session", session.into()));
            names.push(("turn", turn_name(session, step.turn()).into()));
        }
    }
    names.sort_unstable();
    names.dedup();
    let mut query = connection
        .prepare_cached(
            "SELECT seq, kind, body, key, secret FROM outcomes JOIN readable USING (seq)
             WHERE target_by = ?1 AND target = ?3 AND seq <= ?2 AND (gone IS NULL OR gone > ?2)",
        )
        .map_err(JournalError::read)?;
    let mut outcomes = Vec::new();
    for (by, name) in names {
        let mut rows = query.query(params![by, until, &*name]).map_err(JournalError::read)?;
        while let Some(row) = rows.next().map_err(JournalError::read)? {
            if let (_, Entry::Outcome(outcome)) = entry(row)? {
                outcomes.push(outcome);
            }
        }
    }
    Ok(outcomes)
}

/// A row of the view `readable`.
pub(crate) fn entry(row: &rusqlite::Row<'_>) -> Result<(u64, Entry), JournalError> {
    let stored = Stored::of(row).map_err(JournalError::read)?;
    Ok((stored.seq, Entry::read(&stored)?))
}

/// The outcome that is record `seq`.
pub(crate) fn outcome_of(connection: &Connection, seq: u64) -> Result<Outcome, JournalError> {
    let mut query = connection
        .prepare_cached("SELECT seq, kind, body, key, secret FROM readable WHERE seq = ?1")
        .map_err(JournalError::read)?;
    let mut rows = query.query([seq]).map_err(JournalError::read)?;
    match rows.next().map_err(JournalError::read)?.map(entry).transpose()? {
        Some((_, Entry::Outcome(outcome))) => Ok(outcome),
        Some((_, Entry::Step(_))) | None => {
            let why = "the table of outcomes names it, but it is none: rebuild the journal";
            Err(JournalError::Unreadable { seq, why: why.to_owned() })
        }
    }
}
