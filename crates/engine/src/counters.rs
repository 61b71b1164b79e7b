//! What an engine has done and holds, for dashboards.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use understudy_inference::{InLine, InferenceError, STEP_ROWS, Stats};
use understudy_model::BLOCK;

use crate::Config;

#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Whether steps are held back.
    pub(crate) paused: AtomicBool,
    pub(crate) waiting: AtomicUsize,
    /// Prompt tokens of those that wait.
    pub(crate) waiting_tokens: AtomicUsize,
    pub(crate) running: AtomicUsize,
    pub(crate) kv_tokens: AtomicUsize,
    /// Tokens of ended sequences whose keys and values are kept.
    pub(crate) kept_tokens: AtomicUsize,
    /// As of the last change.
    in_line: Mutex<Vec<InLine>>,
    pub(crate) finished: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) cancelled: AtomicU64,
    pub(crate) evicted: AtomicU64,
    pub(crate) steps: AtomicU64,
    pub(crate) rows: AtomicU64,
    pub(crate) steps_by_rows: [AtomicU64; STEP_ROWS.len() + 1],
    pub(crate) prompt_tokens: AtomicU64,
    pub(crate) completion_tokens: AtomicU64,
    pub(crate) reused_tokens: AtomicU64,
    pub(crate) rejected_requests: AtomicU64,
    pub(crate) rejected_tokens: AtomicU64,
}

impl Counters {
    pub(crate) fn stepped(&self, rows: usize) {
        self.steps.fetch_add(1, Relaxed);
        self.rows.fetch_add(rows as u64, Relaxed);
        self.steps_by_rows[Stats::bucket(rows as u64)].fetch_add(1, Relaxed);
    }

    /// Takes a waiting place and room for a prompt, unless there is none. A prompt that nobody
    /// waits beside may be of any length.
    pub(crate) fn enter(&self, prompt: usize, config: &Config) -> Result<(), InferenceError> {
        let more = |waiting| (waiting < config.max_waiting).then_some(waiting + 1);
        if self.waiting.fetch_update(Relaxed, Relaxed, more).is_err() {
            self.rejected_requests.fetch_add(1, Relaxed);
            return Err(InferenceError::Busy(config.max_waiting));
        }
        let more = |tokens: usize| {
            let all = tokens + prompt;
            (tokens == 0 || all <= config.max_waiting_tokens).then_some(all)
        };
        self.waiting_tokens.fetch_update(Relaxed, Relaxed, more).map(drop).map_err(|tokens| {
            self.waiting.fetch_sub(1, Relaxed);
            self.rejected_tokens.fetch_add(1, Relaxed);
            InferenceError::BusyTokens(tokens)
        })
    }

    /// Counts a request that could not even wait for its adapter.
    pub(crate) fn turned_away(&self, error: &InferenceError) {
        if matches!(error, InferenceError::Busy(_)) {
            self.rejected_requests.fetch_add(1, Relaxed);
        }
    }

    /// Requests by adapter.
    pub(crate) fn in_line(&self) -> Vec<InLine> {
        self.line().clone()
    }

    pub(crate) fn lines_up(&self, in_line: Vec<InLine>) {
        *self.line() = in_line;
    }

    /// A list is put there whole.
    fn line(&self) -> MutexGuard<'_, Vec<InLine>> {
        self.in_line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether steps are being made.
    pub(crate) fn is_decoding(&self) -> bool {
        self.running.load(Relaxed) > 0 && !self.paused.load(Relaxed)
    }

    /// Gives back what was taken.
    pub(crate) fn leave(&self, prompt: usize) {
        self.waiting.fetch_sub(1, Relaxed);
        self.waiting_tokens.fetch_sub(prompt, Relaxed);
    }

    pub(crate) fn snapshot(&self, config: &Config) -> Stats {
        Stats {
            kv_capacity: config.kv_tokens,
            kv_block: BLOCK,
            waiting: self.waiting.load(Relaxed),
            running: self.running.load(Relaxed),
            kv_tokens: self.kv_tokens.load(Relaxed),
            finished: self.finished.load(Relaxed),
            failed: self.failed.load(Relaxed),
            cancelled: self.cancelled.load(Relaxed),
            evicted: self.evicted.load(Relaxed),
            steps: self.steps.load(Relaxed),
            steps_by_rows: self.steps_by_rows.each_ref().map(|count| count.load(Relaxed)),
            rows: self.rows.load(Relaxed),
            prompt_tokens: self.prompt_tokens.load(Relaxed),
            completion_tokens: self.completion_tokens.load(Relaxed),
            reused_tokens: self.reused_tokens.load(Relaxed),
            rejected_requests: self.rejected_requests.load(Relaxed),
            rejected_tokens: self.rejected_tokens.load(Relaxed),
            ..Stats::default()
        }
    }
}
