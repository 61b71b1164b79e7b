//! Tests that stay valid however often one looks.
//!
//! | question | test | valid |
//! | --- | --- | --- |
//! | did a mean or a rate move between the arms? | [`Difference`]: asymptotic confidence sequence | from about 50 units per arm |
//! | does the canary succeed less often? | [`PairedTally`]: 2×2 plug-in e-process | exact, from the first pair |
//! | is a bad event more frequent than allowed? | [`ln_e_above_limit`]: truncated beta-binomial | exact, from the first unit |
//! | do the arms get the units they should? | [`ln_e_sample_ratio`]: Dirichlet-multinomial | exact |
//!
//! An e-value has expectation at most 1 while the null hypothesis holds, at any stopping time, so by
//! Ville's inequality it ever reaches `1/α` with probability at most `α`. All are kept as logarithms.
//!
//! Sources: Waudby-Smith et al., "Time-uniform central limit theory" (confidence sequence); Turner
//! and Grünwald, "Exact anytime-valid confidence intervals for contingency tables" (2×2); Lindon and
//! Malek, "Anytime-valid inference for multinomial count data" (sample ratio).

use serde::{Deserialize, Serialize};
use statrs::function::{beta::ln_beta, erf::erfc, gamma::ln_gamma};

/// Units, mean and variance of one arm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Moments {
    pub(crate) n: f64,
    pub(crate) mean: f64,
    pub(crate) variance: f64,
}

impl Moments {
    /// Sample moments of values from 0 to 1, whose variance counts one extra 0 and one extra 1.
    ///
    /// Identical values have a plug-in variance of zero and would prove anything; the two extra
    /// values keep the interval open by about `1/√n` and vanish as units arrive. The mean is exact.
    pub(crate) fn smoothed(n: u64, sum: f64, sum_of_squares: f64) -> Self {
        let n = n as f64;
        let mean_of_all = (sum + 1.0) / (n + 2.0);
        let variance = (sum_of_squares + 1.0) / (n + 2.0) - mean_of_all * mean_of_all;
        Self { n, mean: sum / n, variance: variance.max(0.0) }
    }
}

/// `Δ = mean of the treatment − mean of the control`, its squared standard error, and all units.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Difference {
    pub(crate) delta: f64,
    standard_error_squared: f64,
    n: f64,
}

impl Difference {
    pub(crate) fn of(treatment: Moments, control: Moments) -> Self {
        Self {
            delta: treatment.mean - control.mean,
            standard_error_squared: treatment.variance / treatment.n + control.variance / control.n,
            n: treatment.n + control.n,
        }
    }

    /// Half the width of the two-sided sequence: `Δ ± h` covers the truth at all times, but for α.
    pub(crate) fn two_sided(&self, alpha: f64, n_star: f64) -> f64 {
        let w = self.n * rho_squared(alpha, n_star) + 1.0;
        self.half_width(w, (w.sqrt() / alpha).ln())
    }

    /// Distance of either one-sided bound: `Δ − h`, or `Δ + h`, holds at all times, but for α.
    pub(crate) fn one_sided(&self, alpha: f64, n_star: f64) -> f64 {
        let w = self.n * rho_squared(2.0 * alpha, n_star) + 1.0;
        self.half_width(w, (w.sqrt() / (2.0 * alpha)).ln_1p())
    }

    /// `√(se²·N) · √(2w / (N²ρ²) · boundary)` with `w = Nρ² + 1`.
    fn half_width(&self, w: f64, boundary: f64) -> f64 {
        (self.standard_error_squared * 2.0 * w * boundary / (w - 1.0)).sqrt()
    }

    /// The e-value against `Δ ≤ null` (half-normal mixture, built for a decision at level α).
    pub(crate) fn ln_e_above(&self, null: f64, alpha: f64, n_star: f64) -> f64 {
        let rho_squared = rho_squared(2.0 * alpha, n_star);
        let w = self.n * rho_squared + 1.0;
        let s = (self.delta - null) * (self.n / self.standard_error_squared).sqrt();
        let z = s * (rho_squared / w).sqrt();
        std::f64::consts::LN_2 + z * z / 2.0 - w.ln() / 2.0 + normal_cdf(z).ln()
    }
}

/// The mixture's tuning: tightest around `n_star` units of both arms together, valid everywhere.
fn rho_squared(alpha: f64, n_star: f64) -> f64 {
    let twice = -2.0 * alpha.ln();
    (twice + (twice + 1.0).ln()) / n_star
}

fn normal_cdf(z: f64) -> f64 {
    erfc(-z / std::f64::consts::SQRT_2) / 2.0
}

/// The one-sided 2×2 e-process: evidence that the canary succeeds less often than its baseline.
///
/// Each block is one baseline unit and one canary unit, in order of arrival. Before a block the two
/// success rates are estimated from earlier blocks; the bet is that these estimates predict it
/// better than their mean does. Where the canary looks better, no bet is made.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct PairedTally {
    pub pairs: u64,
    pub canary_successes: u64,
    pub baseline_successes: u64,
    /// Logarithm of the e-value now.
    pub ln_e: f64,
    /// The largest it ever was: what a watcher at every block would have seen.
    pub ln_e_max: f64,
}

/// Pretended earlier successes, and failures, of each arm: the prior with the least regret.
const PAIR_PRIOR: f64 = 0.18;

impl PairedTally {
    pub(crate) fn push(&mut self, baseline: bool, canary: bool) {
        let estimate =
            |successes| (successes as f64 + PAIR_PRIOR) / (self.pairs as f64 + 2.0 * PAIR_PRIOR);
        let (b, c) = (estimate(self.baseline_successes), estimate(self.canary_successes));
        let pooled = f64::midpoint(b, c);
        if c < b {
            self.ln_e += ln_bernoulli(b, baseline) + ln_bernoulli(c, canary)
                - ln_bernoulli(pooled, baseline)
                - ln_bernoulli(pooled, canary);
            self.ln_e_max = self.ln_e_max.max(self.ln_e);
        }
        self.pairs += 1;
        self.baseline_successes += u64::from(baseline);
        self.canary_successes += u64::from(canary);
    }
}

fn ln_bernoulli(p: f64, success: bool) -> f64 {
    if success { p.ln() } else { (1.0 - p).ln() }
}

/// Evidence that a bad event, seen in `bad` of `n` units, is more frequent than `limit`.
///
/// Beta(1,1) prior cut to `(limit, 1)`:
/// `ln B(1+k, 1+n−k) + ln(1 − I_limit(1+k, 1+n−k)) − ln(1−limit) − k ln limit − (n−k) ln(1−limit)`.
pub(crate) fn ln_e_above_limit(bad: u64, n: u64, limit: f64) -> f64 {
    let (k, good) = (bad as f64, (n - bad) as f64);
    ln_beta(1.0 + k, 1.0 + good) + ln_binomial_tail(bad, n + 1, limit)
        - k * limit.ln()
        - (good + 1.0) * (-limit).ln_1p()
}

/// `ln P(X ≤ k)` for `X ~ Binomial(n, p)`, which is `ln(1 − I_p(k+1, n−k))`.
///
/// Summed term by term as logarithms: a continued fraction underflows to `ln 0` for large `n`.
fn ln_binomial_tail(k: u64, n: u64, p: f64) -> f64 {
    let ln_odds = p.ln() - (-p).ln_1p();
    let mut term = n as f64 * (-p).ln_1p();
    let mut sum = term;
    for j in 0..k {
        term += ((n - j) as f64 / (j + 1) as f64).ln() + ln_odds;
        let (high, low) = if sum > term { (sum, term) } else { (term, sum) };
        sum = high + (low - high).exp().ln_1p();
    }
    sum
}

/// How firmly the Dirichlet prior sits on the expected shares, in pretended units.
const RATIO_PRIOR: f64 = 200.0;

/// Evidence that units do not fall into the arms in the expected shares (which sum to 1).
pub(crate) fn ln_e_sample_ratio<const ARMS: usize>(
    counts: [u64; ARMS],
    shares: [f64; ARMS],
) -> f64 {
    let total: u64 = counts.iter().sum();
    let per_arm: f64 = counts
        .into_iter()
        .zip(shares)
        .map(|(count, share)| {
            let (prior, count) = (RATIO_PRIOR * share, count as f64);
            ln_gamma(prior + count) - ln_gamma(prior) - count * share.ln()
        })
        .sum();
    ln_gamma(RATIO_PRIOR) - ln_gamma(RATIO_PRIOR + total as f64) + per_arm
}

#[cfg(test)]
mod tests;
