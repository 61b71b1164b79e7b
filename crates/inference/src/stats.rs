//! What a student has done and holds, for dashboards.

use serde::{Deserialize, Serialize};

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
    pub finished: u64,
    pub failed: u64,
    pub cancelled: u64,
    /// Times a sequence gave up its cache to make room and was read again.
    pub evicted: u64,
    pub steps: u64,
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
    /// Adapters read because a request asked for one that was not in memory.
    pub adapter_misses: u64,
    pub adapter_hits: u64,
}

/// Something a backend counts of itself: what it spent, which of its replicas are out.
#[derive(Debug, Clone, PartialEq)]
pub struct Gauge {
    pub name: &'static str,
    pub labels: Vec<(&'static str, String)>,
    pub value: f64,
    /// It only ever rises.
    pub rises: bool,
}
