//! Tests of a batch of known size. Looking at them while the batch still grows voids them.

use crate::{Interval, normal};

/// A non-inferiority test of two proportions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FarringtonManning {
    pub z: f64,
    /// One-sided, against `p_T − p_C ≤ margin`.
    pub p: f64,
}

/// Non-inferiority of `(successes, n)` of a treatment to a control, `margin` below zero.
///
/// The variance is taken at the most likely rates under `p_T − p_C = margin`, the root of a cubic.
/// Source: Farrington and Manning, "Test statistics and sample size formulae" (1990).
pub fn farrington_manning(
    treatment: (u64, u64),
    control: (u64, u64),
    margin: f64,
) -> FarringtonManning {
    let (nt, nc) = (treatment.1 as f64, control.1 as f64);
    let (pt, pc) = (treatment.0 as f64 / nt, control.0 as f64 / nc);
    let theta = nc / nt;
    let a = 1.0 + theta;
    let b = -(1.0 + theta + pt + theta * pc + margin * (theta + 2.0));
    let c = margin * margin + margin * (2.0 * pt + theta + 1.0) + pt + theta * pc;
    let d = -pt * margin * (1.0 + margin);
    let v = b.powi(3) / (3.0 * a).powi(3) - b * c / (6.0 * a * a) + d / (2.0 * a);
    let u = v.signum() * (b * b / (9.0 * a * a) - c / (3.0 * a)).max(0.0).sqrt();
    let cosine = if u == 0.0 { 0.0 } else { (v / u.powi(3)).clamp(-1.0, 1.0) };
    let angle = (std::f64::consts::PI + cosine.acos()) / 3.0;
    let rate_t = 2.0 * u * angle.cos() - b / (3.0 * a);
    let rate_c = rate_t - margin;
    let variance = rate_t * (1.0 - rate_t) / nt + rate_c * (1.0 - rate_c) / nc;
    let z = (pt - pc - margin) / variance.sqrt();
    FarringtonManning { z, p: normal::cdf(-z) }
}

/// The score interval of a proportion. Source: Wilson, "Probable inference" (1927).
pub fn wilson(successes: u64, n: u64, alpha: f64) -> Interval {
    if n == 0 {
        return Interval { lower: 0.0, upper: 1.0 };
    }
    let z = normal::upper_quantile(alpha / 2.0);
    let (n, p) = (n as f64, successes as f64 / n as f64);
    let scale = 1.0 + z * z / n;
    let centre = (p + z * z / (2.0 * n)) / scale;
    let half = z / scale * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    Interval { lower: (centre - half).max(0.0), upper: (centre + half).min(1.0) }
}

/// The interval of `p_T − p_C` from the two score intervals.
/// Source: Newcombe, "Interval estimation for the difference" (1998), method 10.
pub fn newcombe(treatment: (u64, u64), control: (u64, u64), alpha: f64) -> Interval {
    let rate = |(successes, n): (u64, u64)| successes as f64 / n as f64;
    let (t, c) = (rate(treatment), rate(control));
    let of_t = wilson(treatment.0, treatment.1, alpha);
    let of_c = wilson(control.0, control.1, alpha);
    Interval {
        lower: t - c - (t - of_t.lower).hypot(of_c.upper - c),
        upper: t - c + (of_t.upper - t).hypot(c - of_c.lower),
    }
}

/// Pearson's chi-square test that two counts split evenly: one look, one degree of freedom.
pub fn chi_square_p([a, b]: [u64; 2]) -> f64 {
    let expected = (a + b) as f64 / 2.0;
    let off = a as f64 - expected;
    let statistic = 2.0 * off * off / expected;
    2.0 * normal::cdf(-statistic.sqrt())
}
