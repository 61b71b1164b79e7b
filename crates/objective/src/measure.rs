//! Sums that are carried from micro-batch to micro-batch, and read once per step.

use std::ops::AddAssign;

/// Count, sum, least and largest of some values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) n: f64,
    pub(crate) sum: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    pub(crate) fn push(&mut self, value: f64) {
        *self += Self { n: 1.0, sum: value, min: value, max: value };
    }

    pub(crate) fn mean(&self) -> Option<f64> {
        mean(self.sum, self.n)
    }

    /// The least value, unless there was none.
    pub(crate) fn least(&self) -> Option<f64> {
        (self.n > 0.0).then_some(self.min)
    }

    /// The largest value, unless there was none.
    pub(crate) fn largest(&self) -> Option<f64> {
        (self.n > 0.0).then_some(self.max)
    }
}

impl Default for Spread {
    fn default() -> Self {
        Self { n: 0.0, sum: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY }
    }
}

impl AddAssign for Spread {
    fn add_assign(&mut self, other: Self) {
        self.n += other.n;
        self.sum += other.sum;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }
}

/// `sum / n`, unless nothing was counted.
pub(crate) fn mean(sum: f64, n: f64) -> Option<f64> {
    (n > 0.0).then(|| sum / n)
}

/// Adds what may be missing on either side.
pub(crate) fn add(to: &mut Option<f64>, more: Option<f64>) {
    if let Some(more) = more {
        *to = Some(to.unwrap_or(0.0) + more);
    }
}
