//! The mock's one thread: a token for each running sequence, step after step.

use std::{
    fmt,
    sync::{Condvar, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use super::{
    MockConfig,
    sequence::{Progress, Sequence},
};
use crate::{InLine, InferenceError, Served, Stats, shelf::Shelf};

/// How often deadlines are looked at while nothing moves.
const PATIENCE: Duration = Duration::from_millis(5);

pub(super) struct Shared {
    pub(super) config: MockConfig,
    pub(super) shelf: Shelf,
    pub(super) counts: Counts,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) seeds: AtomicU64,
    pub(super) hits: AtomicU64,
    pub(super) misses: AtomicU64,
}

#[derive(Default)]
struct State {
    waiting: Vec<Sequence>,
    running: Vec<Sequence>,
    /// Who answers those that run, also while a step has them.
    served: Vec<Served>,
    stats: Stats,
    paused: bool,
    closing: bool,
}

impl State {
    /// Notes who runs.
    fn ran(&mut self) {
        self.stats.running = self.running.len();
        self.served = self.running.iter().map(|one| one.served.clone()).collect();
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn new(config: MockConfig) -> Self {
        Self {
            shelf: Shelf::of_rank_at_most(config.max_lora_rank),
            config,
            counts: Counts::default(),
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All or none.
    pub(super) fn accept(&self, sequences: Vec<Sequence>) -> Result<(), InferenceError> {
        let mut state = self.lock();
        if state.closing {
            return Err(InferenceError::ShuttingDown);
        }
        if state.paused {
            return Err(InferenceError::Paused);
        }
        let free = self.config.running.saturating_sub(state.stats.running);
        let waiting = state.waiting.len();
        if waiting + sequences.len() > self.config.waiting + free {
            state.stats.rejected_requests += sequences.len() as u64;
            return Err(InferenceError::Busy(waiting));
        }
        state.waiting.extend(sequences);
        // Stable, so that equal priorities keep their order.
        state.waiting.sort_by_key(|sequence| sequence.request.admission.priority);
        self.changed.notify_all();
        Ok(())
    }

    pub(super) fn stats(&self) -> Stats {
        let state = self.lock();
        let adapters = self.shelf.list();
        let count = |counter: &AtomicU64| counter.load(std::sync::atomic::Ordering::Relaxed);
        Stats {
            waiting: state.waiting.len(),
            kv_capacity: self.config.running * self.config.context,
            resident_adapters: adapters.iter().filter(|adapter| adapter.resident).count(),
            resident_bytes: adapters.iter().map(|adapter| adapter.bytes).sum(),
            adapter_hits: count(&self.counts.hits),
            adapter_misses: count(&self.counts.misses),
            ..state.stats
        }
    }

    pub(super) fn in_line(&self) -> Vec<InLine> {
        let state = self.lock();
        InLine::count(state.waiting.iter().map(|one| &one.served), state.served.iter())
    }

    pub(super) fn pause(&self, paused: bool) {
        self.lock().paused = paused;
        self.changed.notify_all();
    }

    pub(super) fn is_paused(&self) -> bool {
        self.lock().paused
    }

    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.changed.notify_all();
    }

    /// The sequences of the next step, and whether they may go on; `None` at the end.
    fn next(&self) -> Option<(Vec<Sequence>, bool)> {
        let mut state = self.lock();
        while !state.closing && state.running.is_empty() && state.waiting.is_empty() {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.closing {
            let left: Vec<Sequence> = std::mem::take(&mut state.running)
                .into_iter()
                .chain(state.waiting.drain(..))
                .collect();
            drop(state);
            for mut sequence in left {
                sequence.fail(InferenceError::ShuttingDown);
            }
            return None;
        }
        if state.paused {
            let (held, _) =
                self.changed.wait_timeout(state, PATIENCE).unwrap_or_else(PoisonError::into_inner);
            state = held;
        }
        let moves = !state.paused;
        if moves {
            let free = self.config.running.saturating_sub(state.running.len());
            let admitted: Vec<Sequence> = {
                let count = free.min(state.waiting.len());
                state.waiting.drain(..count).collect()
            };
            let prompts: usize = admitted.iter().map(|sequence| sequence.prompt.len()).sum();
            state.stats.prompt_tokens += prompts as u64;
            state.stats.rows += prompts as u64;
            state.running.extend(admitted);
        }
        state.ran();
        Some((std::mem::take(&mut state.running), moves))
    }

    fn settle(&self, left: Vec<Sequence>, ended: &Ended, drawn: u64) {
        let mut state = self.lock();
        let stats = &mut state.stats;
        ended.add_to(stats);
        stats.completion_tokens += drawn;
        if drawn > 0 {
            stats.stepped(drawn);
        }
        stats.kv_tokens = left.iter().map(|one| one.prompt.len() + one.drawn.len()).sum();
        state.running = left;
        state.ran();
        let mut waiting = std::mem::take(&mut state.waiting);
        drop(state);
        let mut over = Ended::default();
        waiting.retain_mut(|sequence| match sequence.expired() {
            None => true,
            Some(progress) => {
                over.count(&progress);
                false
            }
        });
        let mut state = self.lock();
        over.add_to(&mut state.stats);
        waiting.append(&mut state.waiting);
        waiting.sort_by_key(|sequence| sequence.request.admission.priority);
        state.waiting = waiting;
    }
}

#[derive(Default)]
struct Ended {
    finished: u64,
    failed: u64,
    cancelled: u64,
}

impl Ended {
    fn count(&mut self, progress: &Progress) {
        match progress {
            Progress::Going => {}
            Progress::Finished => self.finished += 1,
            Progress::Failed => self.failed += 1,
            Progress::Cancelled => self.cancelled += 1,
        }
    }

    fn add_to(&self, stats: &mut Stats) {
        stats.finished += self.finished;
        stats.failed += self.failed;
        stats.cancelled += self.cancelled;
    }
}

pub(super) fn run(shared: &Shared) {
    while let Some((sequences, moves)) = shared.next() {
        let (mut left, mut ended, mut drawn) = (Vec::new(), Ended::default(), 0);
        if moves && !shared.config.step.is_zero() {
            std::thread::sleep(shared.config.step);
        }
        for mut sequence in sequences {
            let progress = match sequence.expired() {
                Some(over) => over,
                None if !moves => Progress::Going,
                None => {
                    drawn += 1;
                    sequence.step()
                }
            };
            ended.count(&progress);
            if matches!(progress, Progress::Going) {
                left.push(sequence);
            }
        }
        shared.settle(left, &ended, drawn);
    }
}
