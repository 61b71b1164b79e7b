//! What becomes of canaries that nobody watches any longer: a controller that has died, hangs or cannot
//! read takes nothing off, so somebody else has to.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use understudy_ident::TaskName;
use understudy_router::RouteTable;

use crate::Note;

/// When each task was last looked after. Asked by another thread than the controller's.
#[derive(Debug)]
pub struct DeadMan {
    begun: Instant,
    tables: Vec<Arc<RouteTable>>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    last: BTreeMap<TaskName, Instant>,
    /// Tasks whose canaries were taken off for want of a watch.
    taken_off: BTreeSet<TaskName>,
}

impl DeadMan {
    pub(crate) fn over(tables: Vec<Arc<RouteTable>>) -> Self {
        Self { begun: Instant::now(), tables, seen: Mutex::default() }
    }

    /// Takes off every canary whose task was last looked after longer than `lease` before `now`. It
    /// comes back when its evidence has been read again.
    pub fn check(&self, now: Instant, lease: Duration) -> Vec<Note> {
        let mut notes = Vec::new();
        for table in &self.tables {
            let routed = table.snapshot();
            let canaries = routed.iter().filter(|(_, entry)| entry.route.canary.is_some());
            for task in canaries.map(|(task, _)| task) {
                let mut seen = self.seen();
                let last = seen.last.get(task).copied().unwrap_or(self.begun);
                if now.saturating_duration_since(last) <= lease {
                    continue;
                }
                seen.taken_off.insert(task.clone());
                if table.take_canary_off(task) {
                    let seconds = lease.as_secs();
                    let text = format!(
                        "nobody has watched the canary for {seconds} s: what served before serves alone"
                    );
                    notes.push(Note { task: task.clone(), text });
                }
            }
        }
        notes
    }

    /// A task was looked after. True where its canary had been taken off, and may return.
    pub(crate) fn is_alive(&self, task: &TaskName) -> bool {
        let mut seen = self.seen();
        seen.last.insert(task.clone(), Instant::now());
        seen.taken_off.remove(task)
    }

    pub(crate) fn has_taken_off(&self, task: &TaskName) -> bool {
        self.seen().taken_off.contains(task)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
