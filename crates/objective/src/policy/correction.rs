//! The weight that corrects for a sampler whose numerics are not the trainer's.
//!
//! `w = exp(old − μ)` per token, or its product over the reply; for `reinforce`, whose two policies
//! are the trained one and the sampler, `w = exp(lp − μ)`. Truncation holds it between `min` and
//! `max`; masking makes it 0 outside. It is a constant: no gradient flows through it.
//!
//! Sources: TRL's `vllm_importance_sampling_mode`; verl's rollout correction.

use understudy_manifest::{CorrectionSettings, ImportanceCorrection, PolicyLoss, PolicySettings};

use super::Token;

/// The least weight whose logarithm VESPO adds up, as TRL has it: a masked token's is −18.4.
const LEAST: f64 = 1e-8;

/// The weights of one reply.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Weights {
    values: Values,
    /// VESPO takes the weights into its own, so they must not multiply its loss as well.
    is_inside_loss: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum Values {
    Off,
    Tokens(Vec<f64>),
    Reply(f64),
}

pub(super) fn is_on(settings: &PolicySettings) -> bool {
    settings.correction.mode != ImportanceCorrection::Off
}

pub(super) fn weights(settings: &PolicySettings, tokens: &[Token]) -> Weights {
    let log_weights = tokens.iter().map(|token| {
        let trainer = if settings.loss == PolicyLoss::Reinforce { token.lp } else { token.old };
        trainer - token.sampler
    });
    let bounded = |log_weight: f64| bounded(&settings.correction, log_weight.exp());
    let values = match settings.correction.mode {
        ImportanceCorrection::Off => Values::Off,
        ImportanceCorrection::TokenTruncate | ImportanceCorrection::TokenMask => {
            Values::Tokens(log_weights.map(bounded).collect())
        }
        ImportanceCorrection::SequenceTruncate | ImportanceCorrection::SequenceMask => {
            Values::Reply(bounded(log_weights.sum()))
        }
    };
    Weights { values, is_inside_loss: settings.loss == PolicyLoss::Vespo }
}

fn bounded(settings: &CorrectionSettings, weight: f64) -> f64 {
    let CorrectionSettings { mode, min, max } = *settings;
    let masks =
        matches!(mode, ImportanceCorrection::TokenMask | ImportanceCorrection::SequenceMask);
    if !masks {
        weight.clamp(min, max)
    } else if (min..=max).contains(&weight) {
        weight
    } else {
        0.0
    }
}

impl Weights {
    /// What multiplies the token's loss.
    pub(super) fn factor(&self, token: usize) -> f64 {
        match &self.values {
            Values::Tokens(weights) if !self.is_inside_loss => weights[token],
            Values::Reply(weight) if !self.is_inside_loss => *weight,
            _ => 1.0,
        }
    }

    /// The logarithm of their product, for a loss that takes them in.
    pub(super) fn log_product(&self) -> f64 {
        let log = |weight: f64| weight.max(LEAST).ln().min(super::ratio::FAR);
        self.values().iter().map(|weight| log(*weight)).sum()
    }

    /// One per token, or one per reply, or none.
    pub(super) fn values(&self) -> &[f64] {
        match &self.values {
            Values::Off => &[],
            Values::Tokens(weights) => weights,
            Values::Reply(weight) => std::slice::from_ref(weight),
        }
    }
}
