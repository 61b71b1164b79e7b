//! Count, mean and variance: all that the large-sample formulas need of an arm.

use serde::{Deserialize, Serialize};

/// Units, mean and variance of one arm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moments {
    pub n: f64,
    pub mean: f64,
    pub variance: f64,
}

impl Moments {
    /// Of `successes` among `n` zeros and ones: variance `m(1 − m)`.
    pub fn proportion(successes: u64, n: u64) -> Self {
        let mean = successes as f64 / n as f64;
        Self { n: n as f64, mean, variance: mean * (1.0 - mean) }
    }

    /// Sample moments, with `n − 1` under the squares.
    pub fn sample(n: u64, sum: f64, sum_of_squares: f64) -> Self {
        let n = n as f64;
        let squares = sum_of_squares - sum * sum / n;
        Self { n, mean: sum / n, variance: (squares / (n - 1.0)).max(0.0) }
    }

    /// Sample moments of values from 0 to 1, whose variance counts one extra 0 and one extra 1.
    ///
    /// Identical values have a plug-in variance of zero and would prove anything; the two extra
    /// values keep the interval open by about `1/√n` and vanish as units arrive. The mean is exact.
    pub fn smoothed(n: u64, sum: f64, sum_of_squares: f64) -> Self {
        let n = n as f64;
        let mean_of_all = (sum + 1.0) / (n + 2.0);
        let variance = (sum_of_squares + 1.0) / (n + 2.0) - mean_of_all * mean_of_all;
        Self { n, mean: sum / n, variance: variance.max(0.0) }
    }

    /// Of the same values, each times `factor`.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        let (mean, variance) = (self.mean * factor, self.variance * factor * factor);
        Self { n: self.n, mean, variance }
    }
}

/// Mean and squared deviations, one value at a time and without cancellation.
///
/// Source: Welford, "Note on a method for calculating corrected sums of squares and products"
/// (1962); merging: Chan, Golub and LeVeque, "Updating formulae" (1979).
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Running {
    n: u64,
    mean: f64,
    squares: f64,
}

impl Running {
    pub fn push(&mut self, value: f64) {
        self.n += 1;
        let off = value - self.mean;
        self.mean += off / self.n as f64;
        self.squares += off * (value - self.mean);
    }

    /// Adds what another accumulator saw, as if its values had been pushed here.
    pub fn merge(&mut self, other: &Self) {
        let n = self.n + other.n;
        if n == 0 {
            return;
        }
        let off = other.mean - self.mean;
        let part = other.n as f64 / n as f64;
        self.squares += other.squares + off * off * self.n as f64 * part;
        self.mean += off * part;
        self.n = n;
    }

    pub fn count(&self) -> u64 {
        self.n
    }

    /// The mean of no values is 0.
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// Sample moments; fewer than two values have no variance yet, and say infinity.
    pub fn moments(&self) -> Moments {
        let n = self.n as f64;
        let variance = if self.n < 2 { f64::INFINITY } else { self.squares / (n - 1.0) };
        Moments { n, mean: self.mean, variance }
    }
}
