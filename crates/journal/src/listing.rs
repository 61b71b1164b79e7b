//! Which trajectories there are, without reading them.

use rusqlite::{Connection, Row, params};
use serde::Serialize;
use understudy_ident::{TaskName, Timestamp, TrajectoryId};

use crate::{
    JournalError,
    link::{Theirs, tasks_of},
    seal::Holder,
};

/// Which trajectories to list: those of one tenant, or of whoever runs the server.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    pub tenant: Option<String>,
    /// Only those with a step of this task.
    pub task: Option<TaskName>,
    /// Only those whose every step is this subject's.
    pub subject: Option<String>,
    /// Only those whose ids sort after this one: the last of the page before.
    pub after: Option<TrajectoryId>,
    pub limit: usize,
}

/// A trajectory from afar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    pub id: TrajectoryId,
    /// Of the first step.
    pub task: TaskName,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    pub steps: u64,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
}

/// In the order of their ids, which for those of our own server is that of their beginnings.
pub(crate) fn list(
    connection: &Connection,
    listing: &Listing,
) -> Result<Vec<Listed>, JournalError> {
    let Theirs { like, is_like } = tasks_of(listing.tenant.as_deref());
    let find = || -> rusqlite::Result<Vec<Option<Listed>>> {
        let holder = listing.subject.as_deref().map(|name| Holder::subject(connection, name));
        let holder = holder.transpose()?;
        // Beside `min`, SQLite takes the bare columns from the row that has it.
        let mut query = connection.prepare_cached(
            "SELECT trajectory, task, session, count(*), min(at_us), max(at_us) FROM steps
             WHERE trajectory > ?1 AND gone IS NULL AND (task GLOB ?2) = ?3
             GROUP BY trajectory
             HAVING (?4 IS NULL OR sum(task = ?4) > 0)
                AND (?5 IS NULL OR sum(subject IS ?5) = count(*))
             ORDER BY trajectory LIMIT ?6",
        )?;
        let after = listing.after.as_ref().map_or("", TrajectoryId::as_str);
        let task = listing.task.as_ref().map(TaskName::as_str);
        let holder = holder.as_ref().map(Holder::as_str);
        let params = params![after, like, is_like, task, holder, listing.limit as i64];
        query.query_map(params, listed)?.collect()
    };
    // What this version cannot name it cannot show either; the counts tell of it.
    Ok(find().map_err(JournalError::read)?.into_iter().flatten().collect())
}

fn listed(row: &Row<'_>) -> rusqlite::Result<Option<Listed>> {
    let (id, task): (String, String) = (row.get(0)?, row.get(1)?);
    let at = |us| Timestamp::from_microsecond(us).ok();
    let (first, last) = (at(row.get(4)?), at(row.get(5)?));
    let (session, steps) = (row.get(2)?, row.get(3)?);
    let told = || {
        let (id, task) = (id.parse().ok()?, task.parse().ok()?);
        Some(Listed { id, task, session, steps, first_at: first?, last_at: last? })
    };
    Ok(told())
}
