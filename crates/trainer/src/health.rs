//! Watches a run for what goes wrong without a number turning infinite.
//!
//! Each check compares a step with the run's own beginning or with a fixed bound, and fails when
//! it holds for several steps in a row: one odd batch is not an illness. What then happens is the
//! recipe's decision.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use understudy_manifest::{HealthCheck, Reaction};

use crate::metrics::StepMetrics;

/// Steps whose mean is the beginning that later steps are compared with.
const BEGINNING: u64 = 5;

/// Times its own running mean from which a gradient's norm is exploding.
const NORM_FACTOR: f64 = 20.0;

/// Share of its beginning's magnitude by which the chosen log-probability may fall.
const CHOSEN_FALL: f64 = 0.2;

/// Share of its beginning below which entropy has collapsed.
const ENTROPY_LEFT: f64 = 0.1;

/// Nats per token from the reference.
const KL_BUDGET: f64 = 0.5;

/// k3 between sampler and trainer, in nats per token, below which training is stable.
const MISMATCH: f64 = 0.01;

/// Times its beginning from which replies have grown too long, while rewards rise.
const LENGTH_FACTOR: f64 = 1.5;

/// Share of attempts with the same words, at different prompts, that is one constant answer.
const SAME_WORDS: f64 = 0.8;

/// Share of groups whose rewards do not differ.
const SILENT_GROUPS: f64 = 0.95;

/// A constant answer that earns this much is the right answer.
const SOLVED: f64 = 0.95;

/// What is remembered of the run so far; part of its checkpoint.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Health {
    steps: u64,
    beginnings: BTreeMap<String, f64>,
    norm_mean: f64,
    /// Steps in a row for which a check has failed.
    streaks: BTreeMap<HealthCheck, u64>,
    /// Checks that have failed, each with the step at which it first did and its advice.
    pub failed: BTreeMap<HealthCheck, (u64, String)>,
}

/// How a step looked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Diagnosis {
    Healthy,
    /// Something may be beginning: not healthy enough to come back to.
    Doubtful,
    /// A check has failed for the first time.
    Failed(HealthCheck, String),
}

impl Health {
    /// Looks at one step. A check that is off is not made.
    pub(crate) fn look(
        &mut self,
        metrics: &StepMetrics,
        checks: &BTreeMap<HealthCheck, Reaction>,
    ) -> Diagnosis {
        self.steps += 1;
        let mut diagnosis = Diagnosis::Healthy;
        for (check, reaction) in checks {
            if *reaction == Reaction::Off {
                continue;
            }
            let Some((patience, advice)) = self.suffers(*check, metrics) else {
                self.streaks.remove(check);
                continue;
            };
            let streak = self.streaks.entry(*check).or_default();
            *streak += 1;
            if *streak >= patience && !self.failed.contains_key(check) {
                self.failed.insert(*check, (metrics.step, advice.clone()));
                diagnosis = Diagnosis::Failed(*check, advice);
            } else if diagnosis == Diagnosis::Healthy {
                diagnosis = Diagnosis::Doubtful;
            }
        }
        // What explodes must not become what is normal.
        let calm = |norm: &f64| self.steps <= BEGINNING || *norm <= self.norm_bound();
        if let Some(norm) = metrics.grad_norm.filter(calm) {
            self.norm_mean += (norm - self.norm_mean) / self.steps.min(20) as f64;
        }
        diagnosis
    }

    /// How many such steps in a row are too many, and what to do then.
    fn suffers(&mut self, check: HealthCheck, metrics: &StepMetrics) -> Option<(u64, String)> {
        match check {
            HealthCheck::GradientNorm => self.norm(metrics),
            HealthCheck::ChosenLogProb => self.chosen(metrics),
            HealthCheck::Entropy => self.entropy(metrics),
            HealthCheck::Kl => kl(metrics),
            HealthCheck::Ratio => ratio(metrics),
            HealthCheck::Length => self.length(metrics),
            HealthCheck::Collapse => collapse(metrics),
        }
    }

    /// The mean of a quantity over the first steps; nothing while they last.
    fn beginning(&mut self, name: &str, value: f64) -> Option<f64> {
        let seen = self.steps;
        let mean = self.beginnings.entry(name.to_owned()).or_insert(value);
        if seen <= BEGINNING {
            *mean += (value - *mean) / seen as f64;
            return None;
        }
        Some(*mean)
    }

    fn norm_bound(&self) -> f64 {
        NORM_FACTOR * self.norm_mean.max(1e-6)
    }

    fn norm(&self, metrics: &StepMetrics) -> Option<(u64, String)> {
        let norm = metrics.grad_norm?;
        let explodes = self.steps > BEGINNING && norm > self.norm_bound();
        explodes.then(|| {
            let mean = self.norm_mean;
            (2, format!("the gradient's norm is {norm:.1} after {mean:.2}; lower learning_rate"))
        })
    }

    fn chosen(&mut self, metrics: &StepMetrics) -> Option<(u64, String)> {
        let pairs = metrics.preference?;
        let (now, margin) = (pairs.log_prob_chosen, pairs.margin);
        let before = self.beginning("logps/chosen", now)?;
        (now < before - CHOSEN_FALL * before.abs() && margin > 0.0).then(|| {
            let advice = format!(
                "chosen replies fell from {before:.1} to {now:.1} nats while margins grew; add \
                 sft_weight = 0.2, or use loss = \"apo_zero\""
            );
            (5, advice)
        })
    }

    fn entropy(&mut self, metrics: &StepMetrics) -> Option<(u64, String)> {
        let now = metrics.entropy;
        let before = self.beginning("entropy", now)?;
        (now < ENTROPY_LEFT * before).then(|| {
            let advice = format!(
                "entropy fell from {before:.3} to {now:.3} nats; raise kl.beta or epsilon_high, \
                 or lower learning_rate"
            );
            (5, advice)
        })
    }

    fn length(&mut self, metrics: &StepMetrics) -> Option<(u64, String)> {
        let rollout = metrics.rollout.as_ref()?;
        let (length, reward) = (rollout.mean_length, rollout.reward?);
        let (long, low) = (self.beginning("length", length)?, self.beginning("reward", reward)?);
        (length > LENGTH_FACTOR * long.max(1.0) && reward > low).then(|| {
            let advice = format!(
                "replies grew from {long:.0} to {length:.0} tokens as the reward rose; set \
                 overlong_buffer, or reward what was meant"
            );
            (5, advice)
        })
    }
}

fn kl(metrics: &StepMetrics) -> Option<(u64, String)> {
    let kl = metrics.policy?.kl?;
    (kl > KL_BUDGET).then(|| {
        (3, format!("the policy is {kl:.2} nats a token from its reference; raise kl.beta"))
    })
}

fn ratio(metrics: &StepMetrics) -> Option<(u64, String)> {
    let mismatch = metrics.policy?.mismatch?;
    let (k3, ess) = (mismatch.k3_kl, mismatch.ess);
    (k3 > MISMATCH || ess < 0.5).then(|| {
        let advice = format!(
            "sampler and trainer disagree (k3 {k3:.3} nats, {:.0} % of the data counts); use fewer \
             iterations, or fresher data",
            100.0 * ess
        );
        (3, advice)
    })
}

fn collapse(metrics: &StepMetrics) -> Option<(u64, String)> {
    let rollout = metrics.rollout.as_ref()?;
    let reward = rollout.reward?;
    if reward >= SOLVED {
        return None;
    }
    if rollout.same_words > SAME_WORDS {
        let share = 100.0 * rollout.same_words;
        let advice = format!(
            "{share:.0} % of the attempts say the same words whatever the prompt, for a reward of \
             {reward:.2}; start from a better SFT stage (min_sft_score), or drop the reward that a \
             constant answer earns"
        );
        return Some((3, advice));
    }
    (rollout.zero_std > SILENT_GROUPS).then(|| {
        let advice = "hardly any group's rewards differ; use a finer reward, harder prompts, or a \
                      higher temperature";
        (5, advice.to_owned())
    })
}

#[cfg(test)]
mod tests;
