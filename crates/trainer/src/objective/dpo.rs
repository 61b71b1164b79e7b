//! Direct preference optimisation: widen the gap between chosen and rejected, measured against a
//! reference, with the sigmoid loss.
//!
//! With `C = log π(chosen) − log π₀(chosen)`, `R` likewise for rejected and `Δ = C − R`, the loss
//! of a pair is `−log σ(βΔ)`; the loss of a step is the mean over its pairs.

use serde::{Deserialize, Serialize};

use super::{Counts, sft};

/// The preference objective of one stage.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Preference {
    pub beta: f64,
    /// Weight of an added imitation loss on the chosen completions; 0 for plain DPO.
    pub sft_weight: f64,
    /// What the reference says of every example, in the examples' order.
    pub reference: Vec<PairLogProbs>,
}

/// What one pair adds to its step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Push {
    /// Its share of the loss.
    pub loss: f64,
    /// `∂loss/∂lp` of every chosen token.
    pub chosen: f32,
    /// `∂loss/∂lp` of every rejected token.
    pub rejected: f32,
}

impl Preference {
    /// How the pair with index `example` pushes when the policy says `policy` of it.
    pub(crate) fn push(&self, example: usize, policy: PairLogProbs, counts: Counts) -> Push {
        let share = 1.0 / counts.examples.max(1) as f64;
        let pair = sigmoid_loss(self.beta, policy, self.reference[example]);
        let imitation = sft::loss_share(policy.chosen, counts.wanted);
        let imitate = f64::from(sft::coefficient(counts.wanted));
        Push {
            loss: share * pair.loss + self.sft_weight * imitation,
            chosen: (share * pair.d_chosen + self.sft_weight * imitate) as f32,
            rejected: (share * pair.d_rejected) as f32,
        }
    }
}

/// Log-probabilities of a pair's two completions, each summed over its tokens.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PairLogProbs {
    pub chosen: f64,
    pub rejected: f64,
}

impl PairLogProbs {
    /// Sums per-token log-probabilities.
    pub fn sum(chosen: &[f32], rejected: &[f32]) -> Self {
        let sum = |side: &[f32]| side.iter().map(|lp| f64::from(*lp)).sum();
        Self { chosen: sum(chosen), rejected: sum(rejected) }
    }
}

/// One pair's loss and its derivatives by the two summed log-probabilities of the policy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct PairLoss {
    pub loss: f64,
    pub d_chosen: f64,
    pub d_rejected: f64,
}

/// The sigmoid loss of one pair.
pub(crate) fn sigmoid_loss(beta: f64, policy: PairLogProbs, reference: PairLogProbs) -> PairLoss {
    let margin = margin(policy, reference);
    let push = beta * sigmoid(-beta * margin);
    PairLoss { loss: softplus(-beta * margin), d_chosen: -push, d_rejected: push }
}

fn margin(policy: PairLogProbs, reference: PairLogProbs) -> f64 {
    (policy.chosen - reference.chosen) - (policy.rejected - reference.rejected)
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// `log(1 + eˣ)`, which is `−log σ(−x)`, without overflow for large `x`.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// What DPO reports of a step, under the names TRL's users know; each is a mean over pairs.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct PreferenceMetrics {
    /// `β C`. Falling together with `logps/chosen` while margins rise means the chosen replies
    /// are being unlearnt too: add `sft_weight`.
    #[serde(rename = "rewards/chosen")]
    pub reward_chosen: f64,
    /// `β R`
    #[serde(rename = "rewards/rejected")]
    pub reward_rejected: f64,
    /// Share of pairs with `C > R`.
    #[serde(rename = "rewards/accuracies")]
    pub accuracy: f64,
    /// `β Δ`
    #[serde(rename = "rewards/margins")]
    pub margin: f64,
    #[serde(rename = "logps/chosen")]
    pub log_prob_chosen: f64,
    #[serde(rename = "logps/rejected")]
    pub log_prob_rejected: f64,
}

impl PreferenceMetrics {
    /// Adds one pair of a step of `pairs`.
    pub fn add(&mut self, beta: f64, policy: PairLogProbs, reference: PairLogProbs, pairs: usize) {
        let share = 1.0 / pairs.max(1) as f64;
        let chosen = policy.chosen - reference.chosen;
        let rejected = policy.rejected - reference.rejected;
        self.reward_chosen += share * beta * chosen;
        self.reward_rejected += share * beta * rejected;
        self.accuracy += if chosen > rejected { share } else { 0.0 };
        self.margin += share * beta * (chosen - rejected);
        self.log_prob_chosen += share * policy.chosen;
        self.log_prob_rejected += share * policy.rejected;
    }
}

#[cfg(test)]
mod tests;
