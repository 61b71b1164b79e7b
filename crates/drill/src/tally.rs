//! What the users of a soak counted, and what else was measured meanwhile.

use std::{
    fs,
    sync::atomic::{AtomicU64, Ordering},
};

use serde::{Deserialize, Serialize};

/// Counters that all users share.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Replies that came whole.
    pub(crate) replies: AtomicU64,
    pub(crate) streamed: AtomicU64,
    /// Answers that were no reply, and questions without an answer.
    pub(crate) failed: AtomicU64,
    /// Sessions with at least one reply.
    pub(crate) sessions: AtomicU64,
    /// Outcomes the server took, and of those how many about a reply that never was.
    pub(crate) outcomes: AtomicU64,
    pub(crate) astray: AtomicU64,
    /// Outcomes told before the session they are about began.
    pub(crate) early: AtomicU64,
}

pub(crate) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

pub(crate) fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// One sum that must come out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sum {
    pub what: String,
    pub told: u64,
    pub held: u64,
}

impl Sum {
    pub(crate) fn of(what: &str, told: u64, held: u64) -> Self {
        Self { what: what.to_owned(), told, held }
    }

    pub fn is_exact(&self) -> bool {
        self.told == self.held
    }
}

/// What the process holds of the machine's memory; 0 where the system does not say.
pub(crate) fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.map_or(0, |kilobytes| kilobytes * 1024)
}

/// The middle one; 0 of none.
pub(crate) fn median(of: &[u64]) -> u64 {
    let mut sorted = of.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or(0)
}
