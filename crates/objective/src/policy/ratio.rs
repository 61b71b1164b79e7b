//! The ratio of the policy to the one it is held against, per token or per reply.

use understudy_manifest::PolicyLoss;

use super::Token;

/// Beyond this a log-ratio says "far" and nothing more; its exponential stays finite.
pub(super) const FAR: f64 = 20.0;

/// A ratio, and whether it still moves with the policy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ratio {
    /// ρ
    pub(super) value: f64,
    moves: bool,
}

impl Ratio {
    fn of(log_ratio: f64) -> Self {
        Self { value: log_ratio.clamp(-FAR, FAR).exp(), moves: log_ratio.abs() <= FAR }
    }

    /// `∂f/∂x` from `∂f/∂(log ρ)`, where x is the log-ratio before it was held to its range.
    fn back(self, by_log_ratio: f64) -> f64 {
        if self.moves { by_log_ratio } else { 0.0 }
    }
}

/// The ratios of one reply.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Ratios {
    /// `exp(lp − old)` of each token.
    Tokens(Vec<Ratio>),
    /// `exp(mean of lp − old)`, for all tokens alike.
    Reply(Ratio),
}

impl Ratios {
    pub(super) fn of(loss: PolicyLoss, tokens: &[Token]) -> Self {
        let log_ratios = tokens.iter().map(|token| {
            let anchor = if loss.is_anchored_to_sampler() { token.sampler } else { token.old };
            token.lp - anchor
        });
        if loss.is_sequence_level() {
            Self::Reply(Ratio::of(log_ratios.sum::<f64>() / tokens.len().max(1) as f64))
        } else {
            Self::Tokens(log_ratios.map(Ratio::of).collect())
        }
    }

    pub(super) fn at(&self, token: usize) -> f64 {
        match self {
            Self::Tokens(ratios) => ratios[token].value,
            Self::Reply(ratio) => ratio.value,
        }
    }

    /// Derivatives by each token's `lp`, from those by its `log ρ` and by its `lp` directly.
    ///
    /// A reply's ratio is that of every token, and every token moves it by 1/|o|.
    pub(super) fn spread(&self, by_log_ratio: &[f64], by_log_prob: &[f64]) -> Vec<f64> {
        let mean = by_log_ratio.iter().sum::<f64>() / by_log_ratio.len().max(1) as f64;
        let through = |t: usize| match self {
            Self::Tokens(ratios) => ratios[t].back(by_log_ratio[t]),
            Self::Reply(ratio) => ratio.back(mean),
        };
        by_log_prob.iter().enumerate().map(|(t, direct)| direct + through(t)).collect()
    }
}
