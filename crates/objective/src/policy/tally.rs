//! What a step on sampled replies reports.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};
use understudy_manifest::{PolicyLoss, PolicySettings};

use super::{Token, kl::Pull, loss::bound, ratio::Ratios};
use crate::{
    measure::{Spread, mean},
    mismatch::{Mismatch, MismatchReport},
};

/// Sums over replies. Add up those of a step, then [`PolicyTally::report`].
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PolicyTally {
    ratio: Spread,
    clipped_low: f64,
    clipped_high: f64,
    dual_clipped: f64,
    tokens: f64,
    dropped: f64,
    divergence: Spread,
    weight: Spread,
    difference: Spread,
    mismatch: Mismatch,
}

impl PolicyTally {
    pub(super) fn of(
        settings: &PolicySettings,
        tokens: &[Token],
        ratios: &Ratios,
        kept: &[bool],
    ) -> Self {
        let mut tally = Self { tokens: tokens.len() as f64, ..Self::default() };
        tally.count_ratios(settings, tokens, ratios);
        tally.dropped = kept.iter().filter(|kept| !**kept).count() as f64;
        tally
    }

    pub(super) fn count_divergence(&mut self, pulls: &[Pull]) {
        for pull in pulls {
            self.divergence.push(pull.value);
        }
    }

    pub(super) fn count_sampler(&mut self, tokens: &[Token], weights: &[f64]) {
        for weight in weights {
            self.weight.push(*weight);
        }
        for token in tokens {
            self.difference.push((token.old - token.sampler).abs());
            self.mismatch.push(token.lp, token.sampler);
        }
    }

    /// A ratio of the whole reply counts once, with the share of its tokens that it clips.
    fn count_ratios(&mut self, settings: &PolicySettings, tokens: &[Token], ratios: &Ratios) {
        let each = match ratios {
            Ratios::Tokens(ratios) => {
                for ratio in ratios {
                    self.ratio.push(ratio.value);
                }
                1.0
            }
            Ratios::Reply(_) if tokens.is_empty() => return,
            Ratios::Reply(ratio) => {
                self.ratio.push(ratio.value);
                1.0 / tokens.len() as f64
            }
        };
        for (t, token) in tokens.iter().enumerate() {
            let clips = Clips::of(settings, ratios.at(t), token.advantage);
            self.clipped_low += if clips.low { each } else { 0.0 };
            self.clipped_high += if clips.high { each } else { 0.0 };
            self.dual_clipped += if clips.dual { each } else { 0.0 };
        }
    }

    /// The step's metrics. What nothing was counted for is left out.
    pub fn report(&self) -> PolicyMetrics {
        PolicyMetrics {
            clip_low: mean(self.clipped_low, self.ratio.n),
            clip_high: mean(self.clipped_high, self.ratio.n),
            clip_region: mean(self.clipped_low + self.clipped_high, self.ratio.n),
            clip_dual: mean(self.dual_clipped, self.ratio.n),
            opsm: mean(self.dropped, self.tokens),
            kl: self.divergence.mean(),
            ratio_mean: self.ratio.mean(),
            ratio_min: self.ratio.least(),
            ratio_max: self.ratio.largest(),
            difference_mean: self.difference.mean(),
            difference_max: self.difference.largest(),
            importance_min: self.weight.least(),
            importance_mean: self.weight.mean(),
            importance_max: self.weight.largest(),
            mismatch: self.mismatch.report(),
        }
    }
}

impl AddAssign for PolicyTally {
    fn add_assign(&mut self, other: Self) {
        self.ratio += other.ratio;
        self.clipped_low += other.clipped_low;
        self.clipped_high += other.clipped_high;
        self.dual_clipped += other.dual_clipped;
        self.tokens += other.tokens;
        self.dropped += other.dropped;
        self.divergence += other.divergence;
        self.weight += other.weight;
        self.difference += other.difference;
        self.mismatch += other.mismatch;
    }
}

/// Which bounds a ratio has hit, on the side where that takes the gradient away.
struct Clips {
    low: bool,
    high: bool,
    dual: bool,
}

impl Clips {
    fn of(settings: &PolicySettings, ratio: f64, advantage: f64) -> Self {
        let (up, down) = (advantage > 0.0, advantage < 0.0);
        let none = Self { low: false, high: false, dual: false };
        match settings.loss {
            loss if loss.clips() => Self {
                low: down && ratio < 1.0 - settings.epsilon_low,
                high: up && ratio > 1.0 + settings.epsilon_high,
                dual: down && ratio.min(bound(settings.delta)) > bound(settings.dual_clip),
            },
            PolicyLoss::Cispo => Self { high: up && ratio > settings.ratio_cap, ..none },
            _ => none,
        }
    }
}

/// What a step on sampled replies reports, under the names TRL's users know; a mean is over
/// trained tokens, or over replies where the ratio is one per reply.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct PolicyMetrics {
    /// `ρ < 1 − ε_lo` and `A < 0`
    #[serde(rename = "clip_ratio/low_mean", skip_serializing_if = "Option::is_none")]
    pub clip_low: Option<f64>,
    /// `ρ > 1 + ε_hi` and `A > 0`; for CISPO, `ρ` above its cap.
    #[serde(rename = "clip_ratio/high_mean", skip_serializing_if = "Option::is_none")]
    pub clip_high: Option<f64>,
    /// Either.
    #[serde(rename = "clip_ratio/region_mean", skip_serializing_if = "Option::is_none")]
    pub clip_region: Option<f64>,
    /// `ρ > c` and `A < 0`
    #[serde(rename = "clip_ratio/dual_mean", skip_serializing_if = "Option::is_none")]
    pub clip_dual: Option<f64>,
    /// Share of tokens that the off-policy sequence mask dropped.
    #[serde(rename = "opsm_ratio", skip_serializing_if = "Option::is_none")]
    pub opsm: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kl: Option<f64>,
    #[serde(rename = "ratio/mean", skip_serializing_if = "Option::is_none")]
    pub ratio_mean: Option<f64>,
    #[serde(rename = "ratio/min", skip_serializing_if = "Option::is_none")]
    pub ratio_min: Option<f64>,
    #[serde(rename = "ratio/max", skip_serializing_if = "Option::is_none")]
    pub ratio_max: Option<f64>,
    /// Of `|old − μ|`.
    #[serde(
        rename = "sampling/sampling_logp_difference/mean",
        skip_serializing_if = "Option::is_none"
    )]
    pub difference_mean: Option<f64>,
    #[serde(
        rename = "sampling/sampling_logp_difference/max",
        skip_serializing_if = "Option::is_none"
    )]
    pub difference_max: Option<f64>,
    /// Of the correction's weights, after their bounds.
    #[serde(
        rename = "sampling/importance_sampling_ratio/min",
        skip_serializing_if = "Option::is_none"
    )]
    pub importance_min: Option<f64>,
    #[serde(
        rename = "sampling/importance_sampling_ratio/mean",
        skip_serializing_if = "Option::is_none"
    )]
    pub importance_mean: Option<f64>,
    #[serde(
        rename = "sampling/importance_sampling_ratio/max",
        skip_serializing_if = "Option::is_none"
    )]
    pub importance_max: Option<f64>,
    #[serde(flatten)]
    pub mismatch: Option<MismatchReport>,
}
