//! Whether the present differs from the beginning, asked as often as one likes.
//!
//! The first `window` values are the reference. What follows is cut into windows of the same length;
//! each is compared with the reference while it fills, by the asymptotic confidence sequence of
//! [`Difference`], at `α_j = α · 6/(π² j²)` for the j-th window. Within a window looking is free, and
//! over all windows the levels add up to α: that is how often, over its whole life, a trend that
//! stays as it was is called another one. A large change shows within three windows of its begin.

use std::f64::consts::PI;

use understudy_statistics::{Difference, Moments};

/// Fewer values than this are no present: the formula is a large-sample one.
const LEAST: u64 = 20;

#[derive(Debug, Clone)]
pub(crate) struct Trend {
    window: u64,
    alpha: f64,
    reference: Sums,
    present: Sums,
    /// Of the present, counted from 1.
    nth: u64,
}

/// Values from 0 to 1.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    n: u64,
    sum: f64,
    squares: f64,
}

/// Means of the reference and of the present.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Change {
    pub(crate) before: f64,
    pub(crate) now: f64,
    pub(crate) n: u64,
}

impl Trend {
    pub(crate) fn new(window: u64, alpha: f64) -> Self {
        Self { window, alpha, reference: Sums::default(), present: Sums::default(), nth: 1 }
    }

    pub(crate) fn push(&mut self, value: f64) {
        if self.reference.n < self.window {
            return self.reference.push(value);
        }
        if self.present.n == self.window {
            self.present = Sums::default();
            self.nth += 1;
        }
        self.present.push(value);
    }

    /// Certainly lower by more than this.
    pub(crate) fn fallen(&self, by: f64) -> Option<Change> {
        let (difference, alpha, n_star) = self.compared()?;
        (difference.upper(alpha, n_star) < -by).then(|| self.change())
    }

    /// Certainly higher by more than this.
    pub(crate) fn risen(&self, by: f64) -> Option<Change> {
        let (difference, alpha, n_star) = self.compared()?;
        (difference.lower(alpha, n_star) > by).then(|| self.change())
    }

    fn compared(&self) -> Option<(Difference, f64, f64)> {
        let is_known = self.reference.n == self.window && self.present.n >= LEAST;
        let difference = Difference::of(self.present.moments(), self.reference.moments());
        let nth = self.nth as f64;
        let alpha = self.alpha * 6.0 / (PI * PI * nth * nth);
        is_known.then_some((difference, alpha, 2.0 * self.window as f64))
    }

    fn change(&self) -> Change {
        Change { before: self.reference.mean(), now: self.present.mean(), n: self.present.n }
    }
}

impl Sums {
    fn push(&mut self, value: f64) {
        self.n += 1;
        self.sum += value;
        self.squares += value * value;
    }

    fn mean(&self) -> f64 {
        self.sum / self.n.max(1) as f64
    }

    /// With room for what has not been seen: identical values must not prove anything.
    fn moments(&self) -> Moments {
        Moments::smoothed(self.n, self.sum, self.squares)
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;

    /// How many values it takes until a fall is seen, if one is.
    fn seen_after(seed: u64, rate: impl Fn(u64) -> f64, most: u64) -> Option<u64> {
        let mut chance = StdRng::seed_from_u64(seed);
        let mut trend = Trend::new(200, 0.01);
        (0..most).find(|n| {
            trend.push(f64::from(u8::from(chance.random_bool(rate(*n)))));
            trend.fallen(0.05).is_some()
        })
    }

    #[test]
    fn what_stays_as_it_was_is_hardly_ever_called_fallen() {
        let alarms = (0..200).filter(|seed| seen_after(*seed, |_| 0.8, 4000).is_some()).count();
        // At α = 0.01, two are expected at most; this many have probability 0.001.
        assert!(alarms <= 7, "{alarms} of 200");
    }

    #[test]
    fn a_fall_is_seen_within_three_windows_however_late_it_comes() {
        for begins in [200, 1_500, 6_000] {
            for seed in 0..20 {
                let rate = |n| if n < begins { 0.9 } else { 0.4 };
                let seen = seen_after(seed, rate, begins + 600);
                let seen = seen.unwrap_or_else(|| panic!("seed {seed}: not after {begins}"));
                assert!(seen >= begins, "seed {seed}: before it was there");
            }
        }
    }

    #[test]
    fn a_rise_is_the_mirror_of_a_fall() {
        let mut trend = Trend::new(50, 0.01);
        for n in 0..100 {
            trend.push(if n < 50 { 0.1 } else { 0.9 });
        }
        let change = trend.risen(0.1).unwrap();
        assert!((change.before - 0.1).abs() < 1e-9 && (change.now - 0.9).abs() < 1e-9);
        assert_eq!((change.n, trend.fallen(0.0)), (50, None));
    }

    #[test]
    fn a_few_identical_values_prove_nothing() {
        let mut trend = Trend::new(10, 0.01);
        for n in 0..29 {
            trend.push(f64::from(u8::from(n < 10)));
            assert_eq!(trend.fallen(0.0), None, "after {n}");
        }
    }
}
