//! Reading everything: trajectory by trajectory, holding one of them in memory at a time.

use std::{collections::VecDeque, fmt};

use rusqlite::params;
use understudy_ident::{TaskName, Timestamp};
use understudy_trajectory::{Step, Trajectory};

use crate::{
    JournalError, Query,
    link::{entry, judge},
    pool::Lease,
    read::watermark,
    record::Entry,
};

/// How many trajectory ids are looked up at once.
const PAGE: usize = 256;

/// Trajectories in the order of their ids, steps in the order of their time.
///
/// What is appended meanwhile does not show: the scan stands at [`until_seq`](Self::until_seq).
pub struct Scan {
    connection: Lease,
    task: Option<TaskName>,
    since_us: Option<i64>,
    until: u64,
    page: VecDeque<String>,
    last: String,
}

impl Scan {
    pub(crate) fn new(connection: Lease, query: &Query) -> Result<Self, JournalError> {
        let last = watermark(&connection)?;
        let until = query.until_seq.unwrap_or(last);
        if until > last {
            return Err(JournalError::Beyond { until, last });
        }
        Ok(Self {
            task: query.task.clone(),
            since_us: query.since.map(Timestamp::as_microsecond),
            until,
            page: VecDeque::new(),
            // Sorts before every id.
            last: String::new(),
            connection,
        })
    }

    /// The last record taken into account; in a [`Query`] it gives the same trajectories again.
    pub fn until_seq(&self) -> u64 {
        self.until
    }

    fn next_id(&mut self) -> Result<Option<String>, JournalError> {
        if self.page.is_empty() {
            self.page = self.read_page().map_err(JournalError::read)?;
            if let Some(last) = self.page.back() {
                self.last.clone_from(last);
            }
        }
        Ok(self.page.pop_front())
    }

    fn read_page(&self) -> rusqlite::Result<VecDeque<String>> {
        let mut ids = self.connection.prepare_cached(
            "SELECT DISTINCT trajectory FROM steps AS one
             WHERE trajectory > ?1 AND seq <= ?2 AND (gone IS NULL OR gone > ?2) AND (?3 IS NULL OR task = ?3)
               AND (?4 IS NULL OR EXISTS (
                   SELECT 1 FROM steps AS late
                   WHERE late.trajectory = one.trajectory AND late.at_us >= ?4
                     AND late.seq <= ?2 AND (late.gone IS NULL OR late.gone > ?2) AND (?3 IS NULL OR late.task = ?3)))
             ORDER BY trajectory LIMIT ?5",
        )?;
        let task = self.task.as_ref().map(TaskName::as_str);
        let params = params![self.last, self.until, task, self.since_us, PAGE as i64];
        ids.query_map(params, |row| row.get(0))?.collect()
    }

    /// `None` where a rebuild has just found that this version can read none of its steps.
    pub(crate) fn read_trajectory(&self, id: &str) -> Result<Option<Trajectory>, JournalError> {
        let mut query = self
            .connection
            .prepare_cached(
                "SELECT seq, kind, body, key, secret FROM steps JOIN readable USING (seq)
                 WHERE trajectory = ?1 AND seq <= ?2 AND (gone IS NULL OR gone > ?2) AND (?3 IS NULL OR task = ?3)
                 ORDER BY at_us, id",
            )
            .map_err(JournalError::read)?;
        let task = self.task.as_ref().map(TaskName::as_str);
        let mut rows = query.query(params![id, self.until, task]).map_err(JournalError::read)?;
        let mut steps: Vec<(u64, Step)> = Vec::new();
        while let Some(row) = rows.next().map_err(JournalError::read)? {
            if let (seq, Entry::Step(step)) = entry(row)? {
                steps.push((seq, *step));
            }
        }
        let Some((_, first)) = steps.first() else { return Ok(None) };
        let id = first.trajectory.clone();
        Ok(Some(Trajectory { id, steps: judge(&self.connection, steps, self.until)? }))
    }
}

impl Iterator for Scan {
    type Item = Result<Trajectory, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let id = self.next_id().transpose()?;
            if let Some(read) = id.and_then(|id| self.read_trajectory(&id)).transpose() {
                return Some(read);
            }
        }
    }
}

impl fmt::Debug for Scan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scan").field("until", &self.until).field("last", &self.last).finish()
    }
}
