//! Speed and time left, as this process has seen them.

use std::time::Duration;

/// Work done so far: steps or pairs, their tokens, and the time they took.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pace {
    pub(crate) units: u64,
    pub(crate) tokens: u64,
    pub(crate) time: Duration,
}

impl Pace {
    pub(crate) fn note(&mut self, tokens: u64, took: Duration) {
        self.units += 1;
        self.tokens += tokens;
        self.time += took;
    }

    pub(crate) fn tokens_per_second(&self) -> f64 {
        self.tokens as f64 / self.time.as_secs_f64().max(1e-9)
    }

    pub(crate) fn remaining(&self, units: u64) -> Duration {
        self.time.mul_f64(units as f64 / self.units.max(1) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_takes_as_long_as_what_is_done() {
        let mut pace = Pace::default();
        assert_eq!(pace.remaining(10), Duration::ZERO);
        pace.note(100, Duration::from_secs(1));
        pace.note(300, Duration::from_secs(3));
        assert_eq!(pace.remaining(3), Duration::from_secs(6));
        assert!((pace.tokens_per_second() - 100.0).abs() < 1e-9);
    }
}
