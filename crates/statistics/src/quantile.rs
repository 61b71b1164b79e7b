//! Quantiles at any time: where one lies, and whether two samples share it.
//!
//! If `x` is the `q`-quantile, values up to `x` are a coin with rate `q`, so each `x` can be refuted
//! like the rate of a coin. Exact, for independent values. Source: Howard and Ramdas, "Sequential
//! estimation of quantiles with applications to A/B testing and best-arm identification" (2022).

use crate::{Interval, mixture::RateMixture};

/// A sorted sample whose `q`-quantile is asked for.
#[derive(Debug)]
pub struct QuantileSample<'a> {
    sorted: &'a [f64],
    mixture: RateMixture,
    /// The count of values below the quantile that speaks least against it.
    likely: f64,
}

impl<'a> QuantileSample<'a> {
    /// Sorts the values. The answers are tightest at `n_best` values.
    pub fn new(values: &'a mut [f64], q: f64, n_best: f64) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        let mixture = RateMixture::new(q, 0.05, n_best);
        let likely = least(values.len() as f64, |k| mixture.ln_e(k, values.len() as f64));
        Self { sorted: values, mixture, likely }
    }

    /// Evidence that `x` is not the quantile.
    fn ln_e(&self, x: f64) -> f64 {
        let below = self.sorted.partition_point(|value| *value < x) as f64;
        let up_to = self.sorted.partition_point(|value| *value <= x) as f64;
        self.mixture.ln_e(self.likely.clamp(below, up_to), self.sorted.len() as f64)
    }

    /// Where the quantile lies, at all times but for α; unbounded where no value refutes enough.
    pub fn interval(&self, alpha: f64) -> Interval {
        let open = |x: &f64| self.ln_e(*x) < -alpha.ln();
        let first = self.sorted.iter().position(open);
        let last = self.sorted.iter().rposition(open);
        let lower = match first {
            Some(nth) if nth > 0 => self.sorted[nth],
            _ => f64::NEG_INFINITY,
        };
        let upper = match last {
            Some(nth) if nth + 1 < self.sorted.len() => self.sorted[nth],
            _ => f64::INFINITY,
        };
        Interval { lower, upper }
    }

    /// The anytime p-value, two-sided, of both samples having the same quantile: `min(1, 1/E)`,
    /// with the least evidence against both at any one place.
    pub fn same_p_value(&self, other: &Self) -> f64 {
        let places = self.sorted.iter().chain(other.sorted);
        let least = places.map(|x| self.ln_e(*x) + other.ln_e(*x)).fold(f64::INFINITY, f64::min);
        if least.is_finite() { (-least).exp().min(1.0) } else { 1.0 }
    }
}

/// Where a convex function of `[0, high]` is least.
fn least(mut high: f64, convex: impl Fn(f64) -> f64) -> f64 {
    let mut low = 0.0;
    for _ in 0..100 {
        let third = (high - low) / 3.0;
        let (left, right) = (low + third, high - third);
        if convex(left) < convex(right) {
            high = right;
        } else {
            low = left;
        }
    }
    f64::midpoint(low, high)
}
