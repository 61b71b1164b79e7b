//! Shares and delays, with how sure one may be of them.

use serde::Serialize;
use understudy_statistics::{Interval, wilson};

/// How many of all runs, and where the true share lies with 95 % confidence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Share {
    pub count: u64,
    pub of: u64,
    pub share: f64,
    /// Wilson's score interval.
    pub interval: Interval,
}

/// Quantiles of what was seen: the smallest value that at least so many runs do not exceed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Quantiles {
    pub p10: f64,
    pub p50: f64,
    pub p90: f64,
    pub p95: f64,
}

/// How long something took, among the runs in which it happened.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Delay {
    /// Units of the side with fewer.
    pub units_per_arm: Quantiles,
    /// At the traffic that was simulated.
    pub hours: Quantiles,
}

impl Share {
    pub fn of(count: u64, of: u64) -> Self {
        let share = if of == 0 { 0.0 } else { count as f64 / of as f64 };
        Self { count, of, share, interval: wilson(count, of, 0.05) }
    }
}

impl Quantiles {
    /// None of no values.
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_unstable_by(f64::total_cmp);
        let last = values.len().checked_sub(1)?;
        let at = |q: f64| {
            let rank = (q * values.len() as f64).ceil() as usize;
            values[rank.saturating_sub(1).min(last)]
        };
        Some(Self { p10: at(0.1), p50: at(0.5), p90: at(0.9), p95: at(0.95) })
    }
}
