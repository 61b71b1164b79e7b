//! The difference of two means, bounded at all times: the asymptotic confidence sequence.
//!
//! With `N = n_T + n_C`, `se² = v_T/n_T + v_C/n_C` and the tuning
//! `ρ² = (−2 ln α' + ln(−2 ln α' + 1)) / N*`, where `α'` is `α` two-sided and `2α` one-sided:
//!
//! - two-sided `h = √(se²·N) · √( 2w/(N²ρ²) · ln(√w/α) )`, `w = Nρ² + 1`;
//! - one-sided `h = √(se²·N) · √( 2w/(N²ρ²) · ln(1 + √w/(2α)) )`;
//! - e-value against `Δ = δ`: `exp(ρ²S²/(2w)) / √w`, `S² = N(Δ − δ)²/se²`;
//! - e-value against `Δ ≤ δ`: `2·exp(ρ²S²/(2w))/√w · Φ(ρS/√w)`, a half-normal mixture.
//!
//! Any fixed `N*` is valid; the bounds are tightest near it. Sources: Waudby-Smith, Arbour, Sinha,
//! Kennedy and Ramdas, "Time-uniform central limit theory and asymptotic confidence sequences"
//! (2021), propositions 2 and 3; the closed form of `ρ` is the one `gbstats` uses.

use serde::{Deserialize, Serialize};

use crate::{Moments, normal};

/// `Δ = mean of the treatment − mean of the control`, its squared standard error, and all units.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    pub delta: f64,
    pub standard_error_squared: f64,
    pub n: f64,
}

/// A range of values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    pub lower: f64,
    pub upper: f64,
}

/// What bounds on a gain say about it, in rising order of good news.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Claim {
    /// The gain is below 0.
    Worse,
    /// Nothing is proven.
    Open,
    /// The gain is above `−margin`.
    NonInferior,
    /// The gain is above 0.
    Superior,
}

impl Difference {
    pub fn of(treatment: Moments, control: Moments) -> Self {
        Self {
            delta: treatment.mean - control.mean,
            standard_error_squared: treatment.variance / treatment.n + control.variance / control.n,
            n: treatment.n + control.n,
        }
    }

    /// The relative lift `(m_T − m_C)/|m_C|`, with the variance of the ratio by the delta method:
    /// `v_T/(n_T m_C²) + v_C m_T²/(n_C m_C⁴)`.
    pub fn relative(treatment: Moments, control: Moments) -> Self {
        let (t, c) = (treatment.mean, control.mean);
        let of_control = control.variance * t * t / (control.n * c.powi(4));
        Self {
            delta: (t - c) / c.abs(),
            standard_error_squared: treatment.variance / (treatment.n * c * c) + of_control,
            n: treatment.n + control.n,
        }
    }

    /// Half the width of the two-sided sequence: `Δ ± h` covers the truth at all times, but for α.
    pub fn two_sided(&self, alpha: f64, n_star: f64) -> f64 {
        let w = self.n * rho_squared(alpha, n_star) + 1.0;
        self.half_width(w, (w.sqrt() / alpha).ln())
    }

    /// The two-sided sequence itself, `Δ ± h`.
    pub fn interval(&self, alpha: f64, n_star: f64) -> Interval {
        let half = self.two_sided(alpha, n_star);
        Interval { lower: self.delta - half, upper: self.delta + half }
    }

    /// Distance of either one-sided bound: `Δ − h`, or `Δ + h`, holds at all times, but for α.
    pub fn one_sided(&self, alpha: f64, n_star: f64) -> f64 {
        let w = self.n * rho_squared(2.0 * alpha, n_star) + 1.0;
        self.half_width(w, (w.sqrt() / (2.0 * alpha)).ln_1p())
    }

    /// The truth is above this at all times, but for α.
    pub fn lower(&self, alpha: f64, n_star: f64) -> f64 {
        self.delta - self.one_sided(alpha, n_star)
    }

    /// The truth is below this at all times, but for α.
    pub fn upper(&self, alpha: f64, n_star: f64) -> f64 {
        self.delta + self.one_sided(alpha, n_star)
    }

    /// `√(se²·N) · √(2w / (N²ρ²) · boundary)` with `w = Nρ² + 1`.
    fn half_width(&self, w: f64, boundary: f64) -> f64 {
        (self.standard_error_squared * 2.0 * w * boundary / (w - 1.0)).sqrt()
    }

    /// Evidence against `Δ = null`, built for a decision at level α.
    pub fn ln_e(&self, null: f64, alpha: f64, n_star: f64) -> f64 {
        let (z, w) = self.standardised(null, rho_squared(alpha, n_star));
        z * z / 2.0 - w.ln() / 2.0
    }

    /// Evidence against `Δ ≤ null`, built for a decision at level α.
    pub fn ln_e_above(&self, null: f64, alpha: f64, n_star: f64) -> f64 {
        let (z, w) = self.standardised(null, rho_squared(2.0 * alpha, n_star));
        std::f64::consts::LN_2 + z * z / 2.0 - w.ln() / 2.0 + normal::ln_cdf(z)
    }

    /// The anytime p-value of `Δ = 0` at this look, `min(1, 1/E)`. The least over all looks so far
    /// is one too.
    pub fn p_value(&self, alpha: f64, n_star: f64) -> f64 {
        (-self.ln_e(0.0, alpha, n_star)).exp().min(1.0)
    }

    /// Reads the difference as a gain, good when large: bounded from above at `alpha_harm` and from
    /// below at `alpha_gain`.
    pub fn claim(&self, margin: f64, (alpha_harm, alpha_gain): (f64, f64), n_star: f64) -> Claim {
        let worst = self.lower(alpha_gain, n_star);
        if self.upper(alpha_harm, n_star) < 0.0 {
            Claim::Worse
        } else if worst > 0.0 {
            Claim::Superior
        } else if worst > -margin {
            Claim::NonInferior
        } else {
            Claim::Open
        }
    }

    /// `ρS/√w` and `w`.
    fn standardised(&self, null: f64, rho_squared: f64) -> (f64, f64) {
        let w = self.n * rho_squared + 1.0;
        let s = (self.delta - null) * (self.n / self.standard_error_squared).sqrt();
        (s * (rho_squared / w).sqrt(), w)
    }
}

/// The mixture's tuning: tightest around `n_star` units of both arms together, valid everywhere.
fn rho_squared(alpha: f64, n_star: f64) -> f64 {
    let twice = -2.0 * alpha.ln();
    (twice + (twice + 1.0).ln()) / n_star
}
