//! Leaves alone what keeps failing. Pure: time is passed in as milliseconds of any rising clock.
//!
//! ```text
//! closed --too many failures--> open --after a while--> half open --a probe succeeds--> closed
//!                                 ^------------------------ it fails, and the while doubles
//! ```

use std::{collections::VecDeque, time::Duration};

/// When a breaker opens and how long it stays open.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BreakerRules {
    /// Requests older than this are forgotten.
    pub window: Duration,
    /// Fewer than this decide nothing.
    pub min_requests: usize,
    /// Opens when more than this share of them failed.
    pub failure_ratio: f64,
    /// The first time; it doubles while probes fail.
    pub cooldown: Duration,
    pub longest_cooldown: Duration,
}

impl Default for BreakerRules {
    /// More than half of at least 5 requests in 30 s; 5 s at first, a minute at most.
    fn default() -> Self {
        Self {
            window: Duration::from_secs(30),
            min_requests: 5,
            failure_ratio: 0.5,
            cooldown: Duration::from_secs(5),
            longest_cooldown: Duration::from_mins(1),
        }
    }
}

/// Whether a request may go there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    Yes,
    /// This one alone, to see whether it is well again.
    Probe,
    /// Not for so many milliseconds.
    No(u64),
}

/// The breaker of one replica, or of one adapter on it.
#[derive(Debug, Clone)]
pub struct Breaker {
    rules: BreakerRules,
    /// When a request ended, and whether it failed.
    seen: VecDeque<(u64, bool)>,
    /// How many of them failed: counting them again for each request would cost more than the rest.
    failures: usize,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    /// `doubled` is how often a probe has failed.
    Open {
        until_ms: u64,
        doubled: u32,
    },
    /// A probe is under way since `since_ms`.
    Probing {
        since_ms: u64,
        doubled: u32,
    },
}

/// A probe nobody heard of for so long was lost.
const LONGEST_PROBE_MS: u64 = 120_000;

impl Breaker {
    pub fn new(rules: BreakerRules) -> Self {
        Self { rules, seen: VecDeque::new(), failures: 0, state: State::Closed }
    }

    /// Takes a place; whoever gets one reports back with [`record`](Self::record) or
    /// [`forget`](Self::forget).
    pub fn admit(&mut self, now_ms: u64) -> Admission {
        match self.state {
            State::Closed => Admission::Yes,
            State::Open { until_ms, .. } if now_ms < until_ms => Admission::No(until_ms - now_ms),
            State::Probing { since_ms, .. } if now_ms < since_ms + LONGEST_PROBE_MS => {
                Admission::No(self.rules.cooldown.as_millis() as u64)
            }
            State::Open { doubled, .. } | State::Probing { doubled, .. } => {
                self.state = State::Probing { since_ms: now_ms, doubled };
                Admission::Probe
            }
        }
    }

    /// How a request that was admitted ended.
    pub fn record(&mut self, now_ms: u64, failed: bool) {
        match (self.state, failed) {
            (State::Probing { .. }, false) => {
                self.state = State::Closed;
                self.seen.clear();
                self.failures = 0;
            }
            (State::Probing { doubled, .. }, true) => self.open(now_ms, doubled + 1),
            // An old request that ends now says nothing new.
            (State::Open { .. }, _) => {}
            (State::Closed, _) => self.count(now_ms, failed),
        }
    }

    /// A request that was admitted ended in a way that says nothing of the replica.
    pub fn forget(&mut self, now_ms: u64) {
        if let State::Probing { doubled, .. } = self.state {
            self.state = State::Open { until_ms: now_ms, doubled };
        }
    }

    pub fn is_open(&self) -> bool {
        self.state != State::Closed
    }

    fn count(&mut self, now_ms: u64, failed: bool) {
        let oldest = now_ms.saturating_sub(self.rules.window.as_millis() as u64);
        self.seen.push_back((now_ms, failed));
        self.failures += usize::from(failed);
        while let Some((_, failed)) = self.seen.pop_front_if(|(at, _)| *at < oldest) {
            self.failures -= usize::from(failed);
        }
        let enough = self.seen.len() >= self.rules.min_requests;
        if enough && self.failures as f64 > self.rules.failure_ratio * self.seen.len() as f64 {
            self.open(now_ms, 0);
        }
    }

    fn open(&mut self, now_ms: u64, doubled: u32) {
        let cooldown = self.rules.cooldown.saturating_mul(1 << doubled.min(16));
        let cooldown = cooldown.min(self.rules.longest_cooldown).as_millis() as u64;
        self.state = State::Open { until_ms: now_ms + cooldown, doubled };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing(breaker: &mut Breaker, count: usize, now_ms: u64) {
        for _ in 0..count {
            assert_eq!(breaker.admit(now_ms), Admission::Yes);
            breaker.record(now_ms, true);
        }
    }

    #[test]
    fn five_failures_open_it_and_four_do_not() {
        let mut breaker = Breaker::new(BreakerRules::default());
        failing(&mut breaker, 4, 0);
        assert!(!breaker.is_open());
        failing(&mut breaker, 1, 10);
        assert_eq!(breaker.admit(10), Admission::No(5_000));
        assert_eq!(breaker.admit(5_009), Admission::No(1));
    }

    #[test]
    fn five_percent_of_errors_never_open_it() {
        let mut breaker = Breaker::new(BreakerRules::default());
        for n in 0..10_000 {
            assert_eq!(breaker.admit(n), Admission::Yes, "after {n}");
            breaker.record(n, n % 20 == 0);
        }
    }

    #[test]
    fn one_probe_at_a_time_closes_it_or_doubles_the_wait() {
        let mut breaker = Breaker::new(BreakerRules::default());
        failing(&mut breaker, 5, 0);
        assert_eq!(breaker.admit(5_000), Admission::Probe);
        assert!(matches!(breaker.admit(5_000), Admission::No(_)), "one probe at a time");
        breaker.record(5_100, true);
        assert_eq!(breaker.admit(5_100), Admission::No(10_000));
        assert_eq!(breaker.admit(15_100), Admission::Probe);
        breaker.record(15_200, false);
        assert_eq!(breaker.admit(15_200), Admission::Yes);
        failing(&mut breaker, 4, 15_300);
        assert!(!breaker.is_open(), "what was before it opened is forgotten");
    }

    #[test]
    fn the_wait_has_a_bound_and_a_lost_probe_is_replaced() {
        let mut breaker = Breaker::new(BreakerRules::default());
        failing(&mut breaker, 5, 0);
        let mut now = 5_000;
        for _ in 0..10 {
            assert_eq!(breaker.admit(now), Admission::Probe);
            breaker.record(now, true);
            let Admission::No(wait) = breaker.admit(now) else { panic!("it is open") };
            assert!(wait <= 60_000);
            now += wait;
        }
        assert_eq!(breaker.admit(now), Admission::Probe);
        breaker.forget(now);
        assert_eq!(breaker.admit(now), Admission::Probe, "what says nothing frees the place");
        assert_eq!(breaker.admit(now + LONGEST_PROBE_MS), Admission::Probe);
    }

    #[test]
    fn old_failures_are_forgotten() {
        let mut breaker = Breaker::new(BreakerRules::default());
        failing(&mut breaker, 4, 0);
        failing(&mut breaker, 4, 40_000);
        assert!(!breaker.is_open());
    }
}
