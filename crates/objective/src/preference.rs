//! Losses that prefer one reply over another.
//!
//! The loss of a step is the mean of its pairs' losses, plus `sft_weight` times the mean negative
//! log-probability of its chosen tokens. The formula of each pair loss is in [`PairLoss`].

mod loss;

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};
use understudy_manifest::{PreferenceLoss, PreferenceSettings};

use crate::{LogProb, ObjectiveError, Side, logistic::neg_log_sigmoid, measure::add};

pub use loss::{PairLoss, PairScores};

/// What the sums of one optimiser step are divided by: totals over all its micro-batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PairCounts {
    pub pairs: usize,
    pub chosen_tokens: usize,
}

/// What one pair adds to its step.
#[derive(Debug, Clone, PartialEq)]
pub struct PairGradient {
    /// Its share of the step's loss, the imitation term included.
    pub loss: f64,
    /// `∂(loss of the step)/∂lp` of every chosen token.
    pub chosen: Vec<f64>,
    /// `∂(loss of the step)/∂lp` of every rejected token.
    pub rejected: Vec<f64>,
    pub metrics: PreferenceMetrics,
}

/// The loss of one pair, as a share of its step, and the derivative by each token.
pub fn pair<F: LogProb>(
    settings: &PreferenceSettings,
    chosen: Side<'_, F>,
    rejected: Side<'_, F>,
    counts: PairCounts,
) -> Result<PairGradient, ObjectiveError> {
    let share = 1.0 / counts.pairs.max(1) as f64;
    let imitate = 1.0 / counts.chosen_tokens.max(1) as f64;
    let shared = chosen.len().min(rejected.len());
    let scores = scores(settings, chosen, rejected, shared)?;
    let preference = PairLoss::of(settings, &scores);
    let nll = -imitate * chosen.sum(chosen.len(), 1.0)?;
    let spread = |side: Side<'_, F>, by_sum: f64, by_token: f64| {
        let weight = |position| if position < shared { 1.0 } else { settings.ld_alpha };
        (0..side.len()).map(|position| share * by_sum * weight(position) + by_token).collect()
    };
    Ok(PairGradient {
        loss: share * preference.loss + settings.sft_weight * nll,
        chosen: spread(chosen, preference.by_chosen, -settings.sft_weight * imitate),
        rejected: spread(rejected, preference.by_rejected, 0.0),
        metrics: PreferenceMetrics::of(settings, &scores, share, nll),
    })
}

/// Sums both sides up. A loss without a reference is measured against 0.
fn scores<F: LogProb>(
    settings: &PreferenceSettings,
    chosen: Side<'_, F>,
    rejected: Side<'_, F>,
    shared: usize,
) -> Result<PairScores, ObjectiveError> {
    let tail = settings.ld_alpha;
    let reference = |side: Side<'_, F>| {
        if settings.loss.needs_reference() {
            side.reference_sum(settings.loss.as_str(), shared, tail)
        } else {
            Ok(0.0)
        }
    };
    Ok(PairScores {
        chosen: chosen.sum(shared, tail)?,
        rejected: rejected.sum(shared, tail)?,
        chosen_reference: reference(chosen)?,
        rejected_reference: reference(rejected)?,
        chosen_tokens: chosen.len().max(1) as f64,
        rejected_tokens: rejected.len().max(1) as f64,
    })
}

/// What a step on pairs reports, under the names TRL's users know. What one pair gives is its
/// share, so adding up a step's pairs gives the step's means.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct PreferenceMetrics {
    /// β times the reply's score: its log-ratio to the reference; without one its
    /// log-probability (CPO), per token (SimPO, ORPO).
    #[serde(rename = "rewards/chosen")]
    pub reward_chosen: f64,
    #[serde(rename = "rewards/rejected")]
    pub reward_rejected: f64,
    /// Share of pairs whose chosen reply has the larger reward.
    #[serde(rename = "rewards/accuracies")]
    pub accuracy: f64,
    #[serde(rename = "rewards/margins")]
    pub margin: f64,
    /// Falling while margins rise means the chosen replies are being unlearnt too: add
    /// `sft_weight`, or take `apo_zero`.
    #[serde(rename = "logps/chosen")]
    pub log_prob_chosen: f64,
    #[serde(rename = "logps/rejected")]
    pub log_prob_rejected: f64,
    /// The mean negative log-probability of chosen tokens, before its weight.
    pub nll_loss: f64,
    /// ORPO: `log σ` of the log odds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_odds_ratio: Option<f64>,
    /// ORPO: the log odds of chosen over rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_odds_chosen: Option<f64>,
}

impl PreferenceMetrics {
    fn of(settings: &PreferenceSettings, scores: &PairScores, share: f64, nll: f64) -> Self {
        let is_mean = matches!(settings.loss, PreferenceLoss::Simpo | PreferenceLoss::Orpo);
        let per = |tokens: f64| if is_mean { tokens } else { 1.0 };
        let log_prob_chosen = scores.chosen / per(scores.chosen_tokens);
        let log_prob_rejected = scores.rejected / per(scores.rejected_tokens);
        let reward_chosen = settings.beta * (log_prob_chosen - scores.chosen_reference);
        let reward_rejected = settings.beta * (log_prob_rejected - scores.rejected_reference);
        let log_odds = (settings.loss == PreferenceLoss::Orpo).then(|| scores.log_odds());
        Self {
            reward_chosen: share * reward_chosen,
            reward_rejected: share * reward_rejected,
            accuracy: if reward_chosen > reward_rejected { share } else { 0.0 },
            margin: share * (reward_chosen - reward_rejected),
            log_prob_chosen: share * log_prob_chosen,
            log_prob_rejected: share * log_prob_rejected,
            nll_loss: nll,
            log_odds_ratio: log_odds.map(|odds| -share * neg_log_sigmoid(odds)),
            log_odds_chosen: log_odds.map(|odds| share * odds),
        }
    }
}

impl AddAssign for PreferenceMetrics {
    fn add_assign(&mut self, other: Self) {
        self.reward_chosen += other.reward_chosen;
        self.reward_rejected += other.reward_rejected;
        self.accuracy += other.accuracy;
        self.margin += other.margin;
        self.log_prob_chosen += other.log_prob_chosen;
        self.log_prob_rejected += other.log_prob_rejected;
        self.nll_loss += other.nll_loss;
        add(&mut self.log_odds_ratio, other.log_odds_ratio);
        add(&mut self.log_odds_chosen, other.log_odds_chosen);
    }
}
