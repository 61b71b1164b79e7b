//! The SLO breaker: is a bad event more frequent than an absolute limit?
//!
//! `H₀: p ≤ p₀`, with `k` bad of `n` units and a Beta(1,1) prior cut to `(p₀, 1)`:
//! `ln E = ln B(1+k, 1+n−k) + ln(1 − I_p₀(1+k, 1+n−k)) − ln(1−p₀) − k ln p₀ − (n−k) ln(1−p₀)`.
//! Exact from the first unit. Source: Robbins' method of mixtures for Bernoulli trials (1970); the
//! cut makes the bet one-sided.

use serde::{Deserialize, Serialize};
use statrs::function::{beta::ln_beta, gamma::ln_gamma};

/// Terms this far below the largest do not change a double.
const NEGLIGIBLE: f64 = -40.0;

/// Bad units among all units of one arm. The e-value is a function of these two counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LimitTally {
    pub bad: u64,
    pub units: u64,
}

impl LimitTally {
    pub fn push(&mut self, bad: bool) {
        self.bad += u64::from(bad);
        self.units += 1;
    }

    pub fn merge(&mut self, other: &Self) {
        self.bad += other.bad;
        self.units += other.units;
    }

    /// The logarithm of the evidence that the rate is above `limit`, a number between 0 and 1.
    pub fn ln_e(&self, limit: f64) -> f64 {
        ln_e_above_limit(self.bad, self.units, limit)
    }
}

/// Evidence that a bad event, seen in `bad` of `n` units, is more frequent than `limit`.
pub fn ln_e_above_limit(bad: u64, n: u64, limit: f64) -> f64 {
    let (k, good) = (bad as f64, (n - bad) as f64);
    ln_beta(1.0 + k, 1.0 + good) + ln_binomial_at_most(bad, n + 1, limit)
        - k * limit.ln()
        - (good + 1.0) * (-limit).ln_1p()
}

/// `ln P(X ≤ k)` for `X ~ Binomial(n, p)`, `k < n`, which is `ln(1 − I_p(k+1, n−k))`.
///
/// Summed from the largest term of the smaller tail outwards, relative to that term: a continued
/// fraction underflows to `ln 0` for large `n`, and a whole sum takes `k` terms at every look.
fn ln_binomial_at_most(k: u64, n: u64, p: f64) -> f64 {
    let odds = p / (1.0 - p);
    if (k as f64) < n as f64 * p {
        // Falling terms k, k−1, …, each `j / ((n−j+1)·odds)` times the one above.
        return ln_point(k, n, p)
            + sum_of_falling((1..=k).rev(), |j| j as f64 / ((n - j + 1) as f64 * odds)).ln();
    }
    // Falling terms k+1, k+2, … of the other tail.
    let other = ln_point(k + 1, n, p)
        + sum_of_falling(k + 1..n, |j| (n - j) as f64 * odds / (j + 1) as f64).ln();
    (-other.exp()).ln_1p()
}

/// `1 + r₁ + r₁r₂ + …` until a term no longer matters.
fn sum_of_falling(steps: impl Iterator<Item = u64>, ratio: impl Fn(u64) -> f64) -> f64 {
    let (mut term, mut sum) = (1.0, 1.0);
    for step in steps {
        term *= ratio(step);
        sum += term;
        if term < NEGLIGIBLE.exp() {
            break;
        }
    }
    sum
}

fn ln_point(k: u64, n: u64, p: f64) -> f64 {
    let (k, n) = (k as f64, n as f64);
    let choose = ln_gamma(n + 1.0) - ln_gamma(k + 1.0) - ln_gamma(n - k + 1.0);
    choose + k * p.ln() + (n - k) * (-p).ln_1p()
}
