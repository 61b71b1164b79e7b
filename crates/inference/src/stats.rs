//! What a student has done and holds, for dashboards.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Served;

/// A snapshot. Counts are totals since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// Requests accepted and not begun.
    pub waiting: usize,
    /// Sequences being read or decoded.
    pub running: usize,
    /// Tokens whose keys and values running sequences hold.
    pub kv_tokens: usize,
    /// Tokens whose keys and values fit.
    pub kv_capacity: usize,
    /// Tokens of one block of them; 0 where they are not kept in blocks.
    pub kv_block: usize,
    pub finished: u64,
    pub failed: u64,
    pub cancelled: u64,
    /// Times a sequence gave up its cache to make room and was read again.
    pub evicted: u64,
    pub steps: u64,
    /// Steps by how many rows they ran: at most as many as each of [`STEP_ROWS`], then more.
    pub steps_by_rows: [u64; STEP_ROWS.len() + 1],
    /// Rows run through the model: prompts, re-read ones included, and decoded tokens.
    pub rows: u64,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    /// Prompt tokens not run because a sequence before began alike.
    pub reused_tokens: u64,
    /// Refused because too many requests were waiting.
    pub rejected_requests: u64,
    /// Refused because too many prompt tokens were waiting.
    pub rejected_tokens: u64,
    /// Adapter generations in memory, and their bytes.
    pub resident_adapters: usize,
    pub resident_bytes: u64,
    /// How many generations may be; 0 where there is no such limit.
    pub adapters_capacity: usize,
    /// Adapters read because a request asked for one that was not in memory.
    pub adapter_misses: u64,
    pub adapter_hits: u64,
}

impl Stats {
    /// Counts a step over so many rows.
    pub fn stepped(&mut self, rows: u64) {
        self.steps += 1;
        self.rows += rows;
        self.steps_by_rows[Self::bucket(rows)] += 1;
    }

    /// Where a step over so many rows is counted in [`Self::steps_by_rows`].
    pub fn bucket(rows: u64) -> usize {
        STEP_ROWS.partition_point(|bound| (*bound as u64) < rows)
    }
}

/// How many requests of one adapter there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InLine {
    pub alias: String,
    pub waiting: usize,
    pub running: usize,
}

impl InLine {
    /// Counts requests by the alias they were asked for as; those of the base are left out.
    pub fn count<'a>(
        waiting: impl Iterator<Item = &'a Served>,
        running: impl Iterator<Item = &'a Served>,
    ) -> Vec<Self> {
        let mut lines = BTreeMap::<&str, Self>::new();
        let requests = waiting.map(|served| (served, 1, 0));
        for (served, waiting, running) in requests.chain(running.map(|served| (served, 0, 1))) {
            let Some(adapter) = &served.adapter else { continue };
            let line = lines.entry(&adapter.alias).or_default();
            line.alias.clone_from(&adapter.alias);
            line.waiting += waiting;
            line.running += running;
        }
        lines.into_values().collect()
    }
}

/// Bounds of [`Stats::steps_by_rows`], vLLM's of its iterations.
pub const STEP_ROWS: [usize; 14] =
    [1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768];

/// Something a backend counts of itself: what it spent, which of its replicas are out.
#[derive(Debug, Clone, PartialEq)]
pub struct Gauge {
    pub name: &'static str,
    pub labels: Vec<(&'static str, String)>,
    pub value: f64,
    /// It only ever rises.
    pub rises: bool,
}
