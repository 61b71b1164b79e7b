//! Losses over single replies with a label: good, or not.
//!
//! With `x` the log-ratio of the reply to the reference, summed over its tokens, and `z` the
//! baseline:
//!
//! | loss | desirable | undesirable |
//! | --- | --- | --- |
//! | `kto` | `w_D (1 − σ(β(x − z)))` | `w_U (1 − σ(β(z − x)))` |
//! | `apo_zero_unpaired` | `w_D (1 − σ(βx))` | `w_U σ(βx)` |
//!
//! The loss of a step is the mean over its replies. Source: TRL's KTO trainer.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};
use understudy_manifest::{LabelLoss, LabelSettings};

use crate::{LogProb, ObjectiveError, Side, logistic::sigmoid, measure::add};

/// What a user said of a reply.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Label {
    pub desirable: bool,
    /// Multiplies this reply's loss, beside `w_D` or `w_U`; usually 1.
    pub weight: f64,
}

/// How many replies of either label the optimiser step has, over all its micro-batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LabelCounts {
    pub desirable: usize,
    pub undesirable: usize,
}

/// What one labelled reply adds to its step.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelGradient {
    /// Its share of the step's loss.
    pub loss: f64,
    /// `∂(loss of the step)/∂lp` of every token.
    pub coefficients: Vec<f64>,
    pub metrics: LabelMetrics,
}

/// KTO's baseline: `max(0, mean)` of the summed log-ratios of *mismatched* prompts and replies
/// (prompt i with reply i+1 of the batch). No gradient flows through it. Of a single reply's own
/// prompt it is wrong, so it wants a batch of four or more.
pub fn baseline(mismatched_log_ratios: &[f64]) -> f64 {
    let n = mismatched_log_ratios.len().max(1) as f64;
    (mismatched_log_ratios.iter().sum::<f64>() / n).max(0.0)
}

/// The loss of one labelled reply, as a share of its step, and the derivative by each token.
///
/// `baseline` is read by `kto` alone.
pub fn label<F: LogProb>(
    settings: &LabelSettings,
    label: Label,
    side: Side<'_, F>,
    baseline: f64,
    counts: LabelCounts,
) -> Result<LabelGradient, ObjectiveError> {
    let log_prob = side.sum(side.len(), 1.0)?;
    let log_ratio = log_prob - side.reference_sum(settings.loss.as_str(), side.len(), 1.0)?;
    let z = match settings.loss {
        LabelLoss::Kto => baseline,
        LabelLoss::ApoZeroUnpaired => 0.0,
    };
    let (sign, weight) = if label.desirable {
        (1.0, settings.desirable_weight)
    } else {
        (-1.0, settings.undesirable_weight)
    };
    let share = label.weight * weight / (counts.desirable + counts.undesirable).max(1) as f64;
    let u = sign * settings.beta * (log_ratio - z);
    let slope = -share * sign * settings.beta * sigmoid(u) * sigmoid(-u);
    Ok(LabelGradient {
        loss: share * sigmoid(-u),
        coefficients: vec![slope; side.len()],
        metrics: LabelMetrics::of(label, settings.beta * log_ratio, log_prob, counts),
    })
}

/// What a step on labelled replies reports, under TRL's names. What one reply gives is its share,
/// so adding up a step's replies gives the step's means. A side without replies says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct LabelMetrics {
    /// Mean of β times the log-ratio over desirable replies.
    #[serde(rename = "rewards/chosen", skip_serializing_if = "Option::is_none")]
    pub reward_desirable: Option<f64>,
    #[serde(rename = "rewards/rejected", skip_serializing_if = "Option::is_none")]
    pub reward_undesirable: Option<f64>,
    #[serde(rename = "logps/chosen", skip_serializing_if = "Option::is_none")]
    pub log_prob_desirable: Option<f64>,
    #[serde(rename = "logps/rejected", skip_serializing_if = "Option::is_none")]
    pub log_prob_undesirable: Option<f64>,
}

impl LabelMetrics {
    fn of(label: Label, reward: f64, log_prob: f64, counts: LabelCounts) -> Self {
        let per = |value: f64, count: usize| Some(value / count.max(1) as f64);
        if label.desirable {
            Self {
                reward_desirable: per(reward, counts.desirable),
                log_prob_desirable: per(log_prob, counts.desirable),
                ..Self::default()
            }
        } else {
            Self {
                reward_undesirable: per(reward, counts.undesirable),
                log_prob_undesirable: per(log_prob, counts.undesirable),
                ..Self::default()
            }
        }
    }

    /// `rewards/margins`, once both labels were seen.
    pub fn margin(&self) -> Option<f64> {
        Some(self.reward_desirable? - self.reward_undesirable?)
    }
}

impl AddAssign for LabelMetrics {
    fn add_assign(&mut self, other: Self) {
        add(&mut self.reward_desirable, other.reward_desirable);
        add(&mut self.reward_undesirable, other.reward_undesirable);
        add(&mut self.log_prob_desirable, other.log_prob_desirable);
        add(&mut self.log_prob_undesirable, other.log_prob_undesirable);
    }
}
