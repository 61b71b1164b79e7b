//! How loads of adapters went, whoever asked for them: a client, a release, or a replica's leader.

use std::sync::{Mutex, PoisonError};

use crate::{InferenceError, LoadTiming, LoadedAdapter};

/// Bounds of [`Spread::counts`] in seconds.
pub const LOAD_SECONDS: [f64; 22] = [
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
];

/// Totals since the start.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Loads {
    /// Aliases that meant nothing before, or the same.
    pub added: u64,
    pub replaced: u64,
    pub refused: u64,
    pub rolled_back: u64,
    /// Where the time of those that succeeded went.
    pub read: Spread,
    pub verify: Spread,
    pub publish: Spread,
}

/// Seconds by bucket: at most as many as each of [`LOAD_SECONDS`], then more.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Spread {
    pub counts: [u64; LOAD_SECONDS.len() + 1],
    pub sum: f64,
}

impl Spread {
    fn observe(&mut self, seconds: f64) {
        self.counts[LOAD_SECONDS.partition_point(|bound| *bound < seconds)] += 1;
        self.sum += seconds;
    }
}

/// Where a student writes its loads down.
#[derive(Debug, Default)]
pub struct LoadLog(Mutex<Loads>);

impl LoadLog {
    /// Hands on how a load went.
    pub fn loaded(
        &self,
        outcome: Result<LoadedAdapter, InferenceError>,
    ) -> Result<LoadedAdapter, InferenceError> {
        self.note(|loads| match &outcome {
            Err(_) => loads.refused += 1,
            Ok(LoadedAdapter { replaced, timing, .. }) => {
                let count = if replaced.is_some() { &mut loads.replaced } else { &mut loads.added };
                *count += 1;
                let LoadTiming { read, verify, publish } = timing;
                loads.read.observe(read / 1e3);
                loads.verify.observe(verify / 1e3);
                loads.publish.observe(publish / 1e3);
            }
        });
        outcome
    }

    pub fn rolled_back(&self) {
        self.note(|loads| loads.rolled_back += 1);
    }

    pub fn so_far(&self) -> Loads {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, write: impl FnOnce(&mut Loads)) {
        write(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
