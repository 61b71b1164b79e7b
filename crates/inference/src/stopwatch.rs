//! Where the time of one request goes.

use std::time::{Duration, Instant};

use crate::Timing;

/// Starts when a request is submitted.
#[derive(Debug, Clone)]
pub struct Stopwatch {
    submitted: Instant,
    begun: Option<Instant>,
    first: Option<Instant>,
}

impl Stopwatch {
    pub fn start() -> Self {
        Self { submitted: Instant::now(), begun: None, first: None }
    }

    /// The request leaves the queue.
    pub fn begin(&mut self) {
        self.begun.get_or_insert_with(Instant::now);
    }

    /// Something of the answer has arrived.
    pub fn text(&mut self) {
        self.first.get_or_insert_with(Instant::now);
    }

    pub fn since_submitted(&self) -> Duration {
        self.submitted.elapsed()
    }

    pub fn total_ms(&self) -> f64 {
        self.submitted.elapsed().as_secs_f64() * 1e3
    }

    /// An answer without text counts its end as its first token.
    pub fn timing(&self) -> Timing {
        let since = |instant: Option<Instant>| {
            instant.map_or_else(|| self.total_ms(), |at| (at - self.submitted).as_secs_f64() * 1e3)
        };
        let (queued_ms, first_token_ms) = (since(self.begun), since(self.first));
        Timing { queued_ms, first_token_ms, total_ms: self.total_ms() }
    }
}
