//! Where the time of one request goes.

use std::time::Instant;

use understudy_inference::Timing;

/// Starts when a request is submitted.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    submitted: Instant,
    begun: Option<Instant>,
    first: Option<Instant>,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self { submitted: Instant::now(), begun: None, first: None }
    }

    /// A thread has taken the request up.
    pub(crate) fn begin(&mut self) {
        self.begun.get_or_insert_with(Instant::now);
    }

    /// Text has arrived.
    pub(crate) fn text(&mut self) {
        self.first.get_or_insert_with(Instant::now);
    }

    pub(crate) fn total_ms(&self) -> f64 {
        self.submitted.elapsed().as_secs_f64() * 1e3
    }

    /// An answer without text counts its end as its first token.
    pub(crate) fn timing(&self) -> Timing {
        let since = |instant: Option<Instant>| {
            instant.map_or_else(|| self.total_ms(), |at| (at - self.submitted).as_secs_f64() * 1e3)
        };
        let (queued_ms, first_token_ms) = (since(self.begun), since(self.first));
        Timing { queued_ms, first_token_ms, total_ms: self.total_ms() }
    }
}
