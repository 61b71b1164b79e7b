//! A quantile test as a count: how many values exceed a threshold that was frozen before.
//!
//! The p95 of a treatment is above that of its control exactly when more than 5 % of its values
//! exceed the control's p95. Freezing the threshold before the comparison turns the question into
//! one about proportions, without a sketch whose error would enter the decision.

use serde::{Deserialize, Serialize};

use crate::{LimitTally, Moments};

/// Values above a frozen threshold, such as the p95 of last week's latency in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Exceedance {
    threshold: f64,
    tally: LimitTally,
}

impl Exceedance {
    pub fn over(threshold: f64) -> Self {
        Self { threshold, tally: LimitTally::default() }
    }

    /// The threshold that a share `q` of earlier values keeps: the smallest of them that at least
    /// `q · n` do not exceed. None without values. Reorders the values.
    pub fn at_quantile(values: &mut [f64], q: f64) -> Option<Self> {
        let last = values.len().checked_sub(1)?;
        let rank = (q * values.len() as f64).ceil() as usize;
        let (_, threshold, _) =
            values.select_nth_unstable_by(rank.saturating_sub(1).min(last), f64::total_cmp);
        Some(Self::over(*threshold))
    }

    pub fn threshold(&self) -> f64 {
        self.threshold
    }

    pub fn push(&mut self, value: f64) {
        self.tally.push(value > self.threshold);
    }

    /// Adds the counts of another accumulator, unless it used another threshold.
    #[must_use = "counts over different thresholds do not add up"]
    pub fn merge(&mut self, other: &Self) -> bool {
        let same = self.threshold == other.threshold;
        if same {
            self.tally.merge(&other.tally);
        }
        same
    }

    /// For a test of this arm alone, against an absolute limit.
    pub fn tally(&self) -> LimitTally {
        self.tally
    }

    /// For a comparison with another arm.
    pub fn moments(&self) -> Moments {
        let bad = self.tally.bad as f64;
        Moments::smoothed(self.tally.units, bad, bad)
    }
}
