//! What an engine has done and holds, for dashboards.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use understudy_inference::Stats;

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) waiting: AtomicUsize,
    pub(crate) running: AtomicUsize,
    pub(crate) kv_tokens: AtomicUsize,
    pub(crate) finished: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) cancelled: AtomicU64,
    pub(crate) evicted: AtomicU64,
    pub(crate) steps: AtomicU64,
    pub(crate) rows: AtomicU64,
    pub(crate) completion_tokens: AtomicU64,
    pub(crate) reused_tokens: AtomicU64,
}

impl Counters {
    /// Takes a waiting place, unless all are taken.
    pub(crate) fn enter(&self, max_waiting: usize) -> bool {
        let more = |waiting| (waiting < max_waiting).then_some(waiting + 1);
        self.waiting.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    pub(crate) fn leave(&self) {
        self.waiting.fetch_sub(1, Relaxed);
    }

    pub(crate) fn snapshot(&self) -> Stats {
        Stats {
            waiting: self.waiting.load(Relaxed),
            running: self.running.load(Relaxed),
            kv_tokens: self.kv_tokens.load(Relaxed),
            finished: self.finished.load(Relaxed),
            failed: self.failed.load(Relaxed),
            cancelled: self.cancelled.load(Relaxed),
            evicted: self.evicted.load(Relaxed),
            steps: self.steps.load(Relaxed),
            rows: self.rows.load(Relaxed),
            completion_tokens: self.completion_tokens.load(Relaxed),
            reused_tokens: self.reused_tokens.load(Relaxed),
            ..Stats::default()
        }
    }
}
