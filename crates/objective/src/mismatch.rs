//! How far the trainer's log-probabilities are from those the sampler recorded.
//!
//! With `x = lp − μ` of each token, a mean over tokens drawn from the sampler:
//!
//! | metric | formula | says |
//! | --- | --- | --- |
//! | `kl` | mean of `−x` | KL(sampler ‖ trainer), unbiased, noisy |
//! | `k3_kl` | mean of `eˣ − x − 1` | the same, never negative; training is stable below 0.01 |
//! | `chi2_token` | mean of `e²ˣ`, minus 1 | variance of the weights |
//! | `ess` | `(Σeˣ)² / (n Σe²ˣ)` | share of the data that still counts; abort below 0.5 |
//! | `probs_corr` | Pearson's r of `e^lp` and `e^μ` | far from 1: another tokenizer or template |
//!
//! Sources: verl's rollout-correction diagnostics; ART's `probs_corr`.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

use crate::measure::{Spread, mean};

/// Running sums over tokens. Of every token of a step, then [`Mismatch::report`].
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Mismatch {
    log_ratio: f64,
    k3: f64,
    weight: f64,
    weight_squared: f64,
    difference: Spread,
    trainer: f64,
    sampler: f64,
    trainer_squared: f64,
    sampler_squared: f64,
    product: f64,
}

impl Mismatch {
    /// Counts one token, by the log-probability trainer and sampler give it.
    pub fn push(&mut self, trainer: f64, sampler: f64) {
        let x = trainer - sampler;
        let (p, q) = (trainer.exp(), sampler.exp());
        *self += Self {
            log_ratio: x,
            k3: x.exp() - x - 1.0,
            weight: x.exp(),
            weight_squared: (2.0 * x).exp(),
            difference: Spread { n: 1.0, sum: x.abs(), min: x.abs(), max: x.abs() },
            trainer: p,
            sampler: q,
            trainer_squared: p * p,
            sampler_squared: q * q,
            product: p * q,
        };
    }

    /// What was counted, unless that is nothing.
    pub fn report(&self) -> Option<MismatchReport> {
        let n = self.difference.n;
        Some(MismatchReport {
            kl: mean(-self.log_ratio, n)?,
            k3_kl: mean(self.k3, n)?,
            chi2_token: mean(self.weight_squared, n)? - 1.0,
            ess: self.weight * self.weight / (n * self.weight_squared),
            probs_corr: self.correlation(),
            difference_mean: self.difference.mean()?,
            difference_max: self.difference.largest()?,
        })
    }

    /// Undefined for a constant, as for a single token.
    fn correlation(&self) -> Option<f64> {
        let n = self.difference.n;
        let covariance = n * self.product - self.trainer * self.sampler;
        let trainer = n * self.trainer_squared - self.trainer * self.trainer;
        let sampler = n * self.sampler_squared - self.sampler * self.sampler;
        let scale = (trainer * sampler).sqrt();
        // What is left of two equal sums is rounding, and its quotient would be noise.
        (scale > 1e-12 * n * n).then(|| covariance / scale)
    }
}

impl AddAssign for Mismatch {
    fn add_assign(&mut self, other: Self) {
        self.log_ratio += other.log_ratio;
        self.k3 += other.k3;
        self.weight += other.weight;
        self.weight_squared += other.weight_squared;
        self.difference += other.difference;
        self.trainer += other.trainer;
        self.sampler += other.sampler;
        self.trainer_squared += other.trainer_squared;
        self.sampler_squared += other.sampler_squared;
        self.product += other.product;
    }
}

/// The mismatch of a step. See the table of [`crate::mismatch`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MismatchReport {
    #[serde(rename = "mismatch/kl")]
    pub kl: f64,
    #[serde(rename = "mismatch/k3_kl")]
    pub k3_kl: f64,
    #[serde(rename = "mismatch/chi2_token")]
    pub chi2_token: f64,
    #[serde(rename = "mismatch/ess")]
    pub ess: f64,
    #[serde(rename = "mismatch/probs_corr", skip_serializing_if = "Option::is_none")]
    pub probs_corr: Option<f64>,
    /// Mean of `|lp − μ|`.
    #[serde(rename = "mismatch/logp_difference/mean")]
    pub difference_mean: f64,
    /// Largest `|lp − μ|`.
    #[serde(rename = "mismatch/logp_difference/max")]
    pub difference_max: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identical_numerics_are_no_mismatch() {
        let mut mismatch = Mismatch::default();
        assert_eq!(mismatch.report(), None);
        for lp in [-0.1, -1.0, -3.0] {
            mismatch.push(lp, lp);
        }
        let report = mismatch.report().unwrap();
        assert_eq!((report.kl, report.k3_kl, report.chi2_token, report.ess), (0.0, 0.0, 0.0, 1.0));
        assert!((report.probs_corr.unwrap() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_constant_has_no_correlation() {
        let mut mismatch = Mismatch::default();
        mismatch.push(-1.0, -2.0);
        mismatch.push(-1.0, -0.5);
        assert_eq!(mismatch.report().unwrap().probs_corr, None);
    }
}
