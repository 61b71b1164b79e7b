//! Mixture bounds for one arm: of a sum with known variance, and of a Bernoulli rate.
//!
//! Source: Howard, Ramdas, McAuliffe and Sekhon, "Time-uniform, nonparametric, nonasymptotic
//! confidence sequences" (2021), propositions 5 to 7. Both are tuned to be tightest at a chosen time.

use statrs::function::beta::ln_beta;

use crate::{Interval, normal};

/// How high the sum of sub-Gaussian terms ever climbs after variance `v`, but for α; `two_sided`
/// bounds its absolute value. Tightest at variance `v_best`.
pub fn normal_mixture_bound(v: f64, alpha: f64, v_best: f64, two_sided: bool) -> f64 {
    if two_sided {
        let rho = v_best / precision(alpha);
        return ((v + rho) * ((v / rho).ln_1p() - 2.0 * alpha.ln())).sqrt();
    }
    let rho = v_best / precision(2.0 * alpha);
    let ln_e = |s: f64| {
        let z = s / (v + rho).sqrt();
        std::f64::consts::LN_2 + (rho / (v + rho)).ln() / 2.0 + z * z / 2.0 + normal::ln_cdf(z)
    };
    let mut high = (v + rho).sqrt();
    while ln_e(high) < -alpha.ln() {
        high *= 2.0;
    }
    crossing((0.0, high), |s| ln_e(s) + alpha.ln())
}

/// Where the rate behind `successes` of `n` lies, at all times but for α. Tightest at `n_best`.
pub fn bernoulli_interval(successes: u64, n: u64, alpha: f64, n_best: f64) -> Interval {
    let (k, all) = (successes as f64, n as f64);
    let excess = |p: f64| RateMixture::new(p, alpha, n_best).ln_e(k, all) + alpha.ln();
    let seen = k / all;
    let lower = if successes == 0 { 0.0 } else { crossing((seen, 0.0), excess) };
    let upper = if successes == n { 1.0 } else { crossing((seen, 1.0), excess) };
    Interval { lower, upper }
}

/// Evidence against one rate `p`, from a Beta(cp, c(1−p)) mixture of all others:
/// `ln E = ln B(cp + k, c(1−p) + n − k) − ln B(cp, c(1−p)) − k ln p − (n−k) ln(1−p)`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RateMixture {
    p: f64,
    concentration: f64,
}

impl RateMixture {
    /// Tightest at `n_best` values and level α.
    pub(crate) fn new(p: f64, alpha: f64, n_best: f64) -> Self {
        Self { p, concentration: (n_best / precision(alpha) - 1.0).max(1e-3) }
    }

    /// Of `k` successes in `n`, which need not be whole.
    pub(crate) fn ln_e(&self, k: f64, n: f64) -> f64 {
        let (p, misses) = (self.p, n - k);
        let (a, b) = (self.concentration * p, self.concentration * (1.0 - p));
        ln_beta(a + k, b + misses) - ln_beta(a, b) - k * p.ln() - misses * (-p).ln_1p()
    }
}

/// `2 ln(1/α) + ln(1 + 2 ln(1/α))`: the time of most precision, in units of the mixture's variance.
fn precision(alpha: f64) -> f64 {
    let twice = -2.0 * alpha.ln();
    twice + twice.ln_1p()
}

/// Where a function that is negative at the first end and positive at the second crosses zero.
fn crossing((mut negative, mut positive): (f64, f64), excess: impl Fn(f64) -> f64) -> f64 {
    for _ in 0..100 {
        let middle = f64::midpoint(negative, positive);
        if excess(middle) < 0.0 {
            negative = middle;
        } else {
            positive = middle;
        }
    }
    f64::midpoint(negative, positive)
}
