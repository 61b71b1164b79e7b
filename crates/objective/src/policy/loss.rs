//! The loss of one token, by name: the table of `policy.rs`, with derivatives.

use understudy_manifest::{PolicyLoss, PolicySettings, SapoSettings, VespoSettings};

use super::{
    Token,
    correction::Weights,
    ratio::{FAR, Ratios},
};
use crate::logistic::sigmoid;

/// One token's loss, and its derivatives along the two paths to `lp`: direct, and by log ρ.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Push {
    pub(super) loss: f64,
    pub(super) by_log_prob: f64,
    pub(super) by_log_ratio: f64,
}

pub(super) fn pushes(
    settings: &PolicySettings,
    tokens: &[Token],
    ratios: &Ratios,
    weights: &Weights,
) -> Vec<Push> {
    let log_weight = log_weight(tokens, weights);
    let push = |(t, token): (usize, &Token)| {
        let (ratio, advantage) = (ratios.at(t), token.advantage);
        match settings.loss {
            PolicyLoss::Ppo | PolicyLoss::Gspo | PolicyLoss::Luspo => {
                clipped(settings, ratio, advantage)
            }
            PolicyLoss::Cispo => weighted(ratio.min(settings.ratio_cap), token),
            PolicyLoss::Sapo => gated(&settings.sapo, ratio, advantage),
            PolicyLoss::Vespo => weighted(gamma(&settings.vespo, log_weight, advantage), token),
            PolicyLoss::Dppo => banded(settings, ratio, token),
            PolicyLoss::Reinforce => weighted(1.0, token),
            PolicyLoss::Dro => weighted(1.0, token).plus(quadratic(settings.anchor / 2.0, token)),
        }
    };
    tokens.iter().enumerate().map(push).collect()
}

impl Push {
    fn plus(self, other: Self) -> Self {
        Self {
            loss: self.loss + other.loss,
            by_log_prob: self.by_log_prob + other.by_log_prob,
            by_log_ratio: self.by_log_ratio + other.by_log_ratio,
        }
    }
}

/// The gradient is that of `−A·ρ` where nothing was clipped, and 0 where something was.
fn clipped(settings: &PolicySettings, ratio: f64, advantage: f64) -> Push {
    let most = bound(settings.delta);
    let free = ratio.min(most) * advantage;
    let held = ratio.clamp(1.0 - settings.epsilon_low, 1.0 + settings.epsilon_high) * advantage;
    let loss = -free.min(held);
    let ceiling = -bound(settings.dual_clip) * advantage;
    if advantage < 0.0 && loss > ceiling {
        return Push { loss: ceiling, ..Push::default() };
    }
    let moves = free <= held && ratio <= most;
    Push { loss, by_log_ratio: if moves { loss } else { 0.0 }, by_log_prob: 0.0 }
}

/// A bound that is off at 0.
pub(super) fn bound(setting: f64) -> f64 {
    if setting > 0.0 { setting } else { f64::INFINITY }
}

/// `−w·A·lp`, w being a constant.
fn weighted(weight: f64, token: &Token) -> Push {
    let slope = -weight * token.advantage;
    Push { loss: slope * token.lp, by_log_prob: slope, by_log_ratio: 0.0 }
}

fn gated(settings: &SapoSettings, ratio: f64, advantage: f64) -> Push {
    let tau = if advantage > 0.0 { settings.positive } else { settings.negative };
    let u = tau * (ratio - 1.0);
    Push {
        loss: -advantage * 4.0 / tau * sigmoid(u),
        by_log_ratio: -advantage * 4.0 * sigmoid(u) * sigmoid(-u) * ratio,
        by_log_prob: 0.0,
    }
}

/// `log W` of VESPO, held to `[ln 1e-8, 20]`.
fn log_weight(tokens: &[Token], weights: &Weights) -> f64 {
    let log_ratios = tokens.iter().map(|token| (token.lp - token.old).clamp(-FAR, FAR));
    (log_ratios.sum::<f64>() + weights.log_product()).clamp(1e-8f64.ln(), FAR)
}

/// VESPO's φ; it is 1 for `W = 1`.
fn gamma(settings: &VespoSettings, log_weight: f64, advantage: f64) -> f64 {
    let (k, lambda) = if advantage >= 0.0 {
        (settings.k_positive, settings.lambda_positive)
    } else {
        (settings.k_negative, settings.lambda_negative)
    };
    (lambda + k * log_weight - lambda * log_weight.exp()).exp()
}

fn banded(settings: &PolicySettings, ratio: f64, token: &Token) -> Push {
    let moved = token.lp.exp() - token.sampler.exp();
    let is_out = moved * token.advantage.signum() > settings.band && token.advantage != 0.0;
    let loss = if is_out { 0.0 } else { -token.advantage * ratio };
    let push = Push { loss, by_log_ratio: loss, by_log_prob: 0.0 };
    push.plus(quadratic(settings.anchor, token))
}

/// `λ(lp − μ)²`
fn quadratic(lambda: f64, token: &Token) -> Push {
    let x = token.lp - token.sampler;
    Push { loss: lambda * x * x, by_log_prob: 2.0 * lambda * x, by_log_ratio: 0.0 }
}
