//! What was spent today, kept in a file so that a restart is not a fresh day.
//!
//! Money that is only reserved counts as spent there: after a crash nobody knows what became of the
//! requests it was for. Writing happens on a thread of its own and only the latest state is written,
//! so a reply waits for no disk; what a power loss can forget is what was reserved in the
//! milliseconds before it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use serde::{Deserialize, Serialize};
use understudy_ident::Timestamp;
use understudy_storage::atomic;

use crate::{Accounts, Limits, MicroUsd, TeacherError, accounts::Spent};

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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    /// Days since 1970 in UTC.
    day: i64,
    spent_micro_usd: MicroUsd,
    /// Of which by tenants that have a limit.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    tenants_micro_usd: BTreeMap<String, MicroUsd>,
}

impl Ledger {
    /// Opens the file, and the budgets as they stood when it was last written.
    pub fn open(
        path: &Path,
        limits: Limits,
        now: Timestamp,
    ) -> Result<(Self, Accounts), TeacherError> {
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
        let accounts = match spent {
            Some(Line { spent_micro_usd: whole, tenants_micro_usd: tenants, .. }) => {
                Accounts::resume(limits, &Spent { whole, tenants }, now)
            }
            None => Accounts::new(limits),
        };
        let state = Mutex::default();
        let shared = Shared { path: path.to_owned(), state, changed: Condvar::new() };
        let shared = Arc::new(shared);
        let writing = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("teacher-ledger".to_owned())
            .spawn(move || writing.write_for_ever())
            .map_err(TeacherError::Threads)?;
        Ok((Self { shared, thread: Some(thread) }, accounts))
    }

    /// Notes what counts as spent.
    pub(crate) fn note(&self, accounts: &mut Accounts, now: Timestamp) {
        let Spent { whole, tenants } = accounts.spent(now);
        let line = Line { day: day_of(now), spent_micro_usd: whole, tenants_micro_usd: tenants };
        let mut state = self.shared.lock();
        state.latest = Some(line);
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
            let bytes = serde_json::to_vec(&line).expect("numbers under names are JSON");
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
