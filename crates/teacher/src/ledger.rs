//! What was spent today, kept in a file so that a restart is not a fresh day.
//!
//! Money that is only reserved counts as spent there: after a crash nobody knows what became of the
//! requests it was for. Writing happens on a thread of its own and only the latest state is written,
//! so a reply waits for no disk; what a power loss can forget is what was reserved in the
//! milliseconds before it.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use serde::{Deserialize, Serialize};
use understudy_ident::Timestamp;
use understudy_storage::atomic;

use crate::{Budget, MicroUsd, TeacherError};

/// A file that follows a budget.
#[derive(Debug)]
pub struct Ledger {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    latest: Option<Line>,
    closed: bool,
}

/// The whole file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    /// Days since 1970 in UTC.
    day: i64,
    spent_micro_usd: MicroUsd,
}

impl Ledger {
    /// Opens the file, and the budget as it stood when it was last written.
    pub fn open(
        path: &Path,
        per_day: MicroUsd,
        now: Timestamp,
    ) -> Result<(Self, Budget), TeacherError> {
        let wrong = |done| {
            let path = path.display().to_string();
            move |source| TeacherError::Ledger { path, done, source }
        };
        let known: Option<Line> = match std::fs::read(path) {
            Ok(bytes) => Some(
                serde_json::from_slice(&bytes).map_err(|why| wrong("understood")(why.into()))?,
            ),
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => None,
            Err(why) => return Err(wrong("read")(why)),
        };
        let spent = known.filter(|line| line.day == day_of(now));
        let budget = match spent {
            Some(line) => Budget::resume(per_day, line.spent_micro_usd, now),
            None => Budget::new(per_day),
        };
        let state = Mutex::default();
        let shared = Shared { path: path.to_owned(), state, changed: Condvar::new() };
        let shared = Arc::new(shared);
        let writing = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("teacher-ledger".to_owned())
            .spawn(move || writing.write_for_ever())
            .map_err(TeacherError::Threads)?;
        Ok((Self { shared, thread: Some(thread) }, budget))
    }

    /// Notes what counts as spent.
    pub(crate) fn note(&self, budget: &mut Budget, now: Timestamp) {
        let spent = budget.spent_today(now).plus(budget.reserved());
        let mut state = self.shared.lock();
        state.latest = Some(Line { day: day_of(now), spent_micro_usd: spent });
        self.shared.changed.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_for_ever(&self) {
        loop {
            let mut state = self
                .changed
                .wait_while(self.lock(), |state| state.latest.is_none() && !state.closed)
                .unwrap_or_else(PoisonError::into_inner);
            let Some(line) = state.latest.take() else { return };
            drop(state);
            let bytes = serde_json::to_vec(&line).expect("two numbers are JSON");
            if let Err(why) = atomic::write(&self.path, &bytes) {
                tracing::error!(path = %self.path.display(), %why, "the teacher's ledger is behind");
            }
        }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // What it could not write it has already said.
            thread.join().ok();
        }
    }
}

fn day_of(now: Timestamp) -> i64 {
    now.as_second().div_euclid(86_400)
}
