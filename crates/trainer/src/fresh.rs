//! Fresh attempts, turned into examples: rewards become advantages, calls become rows, and what
//! teaches nothing is dropped before it costs a forward pass.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use understudy_manifest::{Credit, GrpoSettings};
use understudy_objective::{
    advantage::{self, Component},
    overlong,
};

use crate::{
    attempt::{Attempt, Call, Group, Merged, merge},
    rows::{Advantage, Example, Kind},
};

/// What a round of attempts looked like, under TRL's names.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RolloutMetrics {
    /// Mean over attempts that have one; `null` when none has.
    pub reward: Option<f64>,
    /// Mean over groups of the standard deviation within the group.
    pub reward_std: f64,
    /// Share of groups whose rewards do not differ.
    #[serde(rename = "frac_reward_zero_std")]
    pub zero_std: f64,
    /// Means of the reward's parts, by name.
    #[serde(rename = "rewards", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parts: BTreeMap<String, f64>,
    pub attempts: u64,
    /// Attempts nobody had an opinion about.
    #[serde(rename = "no_opinion")]
    pub no_opinion: u64,
    /// Attempts that what is around the model spoilt.
    pub failed: u64,
    #[serde(rename = "completions/mean_length")]
    pub mean_length: f64,
    #[serde(rename = "completions/min_length")]
    pub min_length: f64,
    #[serde(rename = "completions/max_length")]
    pub max_length: f64,
    /// Share of attempts with a completion that ran out of room.
    #[serde(rename = "completions/clipped_ratio")]
    pub clipped: f64,
    /// Share of attempts that say the words said most often in the whole round.
    #[serde(rename = "completions/same_words")]
    pub same_words: f64,
    /// Share of tokens that a constraint left no choice about.
    #[serde(rename = "completions/forced_ratio", default)]
    pub forced: f64,
    /// Model calls per attempt.
    #[serde(rename = "num_turns/mean")]
    pub turns: f64,
    /// Calls that began with everything before them, and those whose history was rewritten.
    #[serde(rename = "drift/clean")]
    pub clean: u64,
    #[serde(rename = "drift/fork")]
    pub fork: u64,
    /// Seconds the round took, sampling and scoring.
    #[serde(rename = "timing_s/gen")]
    pub seconds: f64,
}

/// Turns a round into one example for every group that has something to compare.
pub(crate) fn examples(
    mut groups: Vec<Group>,
    settings: &GrpoSettings,
) -> (Vec<Example>, RolloutMetrics) {
    let mut metrics = RolloutMetrics::default();
    for attempt in groups.iter_mut().flat_map(|group| &mut group.attempts) {
        punish_length(attempt, settings);
    }
    let rewards: Vec<Vec<Option<f64>>> =
        groups.iter().map(|group| totals(group, settings)).collect();
    let views: Vec<&[Option<f64>]> = rewards.iter().map(Vec::as_slice).collect();
    let advantages = advantage::batch(&views, &settings.advantage);
    let mut merged = Merged::default();
    let mut kept = Vec::new();
    for ((group, rewards), advantages) in groups.iter().zip(&rewards).zip(&advantages) {
        metrics.reward_std += advantages.std / groups.len() as f64;
        if !advantages.has_signal {
            metrics.zero_std += 1.0 / groups.len() as f64;
            continue;
        }
        let by_turn = (settings.credit == Credit::Turn).then(|| turn_baseline(group));
        let example =
            example(group, rewards, &advantages.values, by_turn.as_ref(), settings, &mut merged);
        kept.extend(example);
    }
    (metrics.clean, metrics.fork) = (merged.clean, merged.fork);
    metrics.describe(&groups);
    (kept, metrics)
}

/// Close to the limit a reply loses up to 1, whatever else it earned.
fn punish_length(attempt: &mut Attempt, settings: &GrpoSettings) {
    let (limit, buffer) = (settings.max_new_tokens as usize, settings.overlong_buffer as usize);
    if buffer == 0 {
        return;
    }
    let longest = attempt.calls.iter().map(|call| call.completion_ids.len()).max().unwrap_or(0);
    let truncated = attempt.calls.iter().any(|call| call.truncated);
    let penalty = if truncated { -1.0 } else { overlong::penalty(longest, limit, buffer) };
    if let Some(reward) = &mut attempt.reward {
        *reward += penalty;
        attempt.components.push(("overlong".to_owned(), Some(penalty)));
    }
}

/// What each attempt of a group counts as; a failed one has no opinion to offer.
fn totals(group: &Group, settings: &GrpoSettings) -> Vec<Option<f64>> {
    let plain = |attempt: &Attempt| attempt.reward.filter(|_| !attempt.failed);
    if !settings.normalise_each {
        return group.attempts.iter().map(plain).collect();
    }
    let names = group.attempts.first().map(|attempt| attempt.components.as_slice());
    let columns: Vec<Vec<Option<f64>>> = (0..names.map_or(0, <[_]>::len))
        .map(|nth| {
            let part =
                |attempt: &Attempt| attempt.components.get(nth)?.1.filter(|_| !attempt.failed);
            group.attempts.iter().map(part).collect()
        })
        .collect();
    let weight = |nth: usize| settings.rewards.get(nth).map_or(1.0, |reward| reward.weight);
    let components: Vec<Component<'_>> = columns
        .iter()
        .enumerate()
        .map(|(nth, rewards)| Component { weight: weight(nth), rewards })
        .collect();
    advantage::normalize_then_sum(&components, &settings.advantage)
}

/// Mean and deviation of what follows a turn, over the turns of all attempts of a group.
struct TurnBaseline {
    mean: f64,
    std: f64,
}

fn turn_baseline(group: &Group) -> TurnBaseline {
    let all: Vec<f64> = group.attempts.iter().filter(|a| !a.failed).flat_map(returns).collect();
    let count = all.len().max(1) as f64;
    let mean = all.iter().sum::<f64>() / count;
    let variance = all.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
    TurnBaseline { mean, std: variance.sqrt() }
}

/// What every call of an attempt earned from itself to the end.
fn returns(attempt: &Attempt) -> Vec<f64> {
    let mut sum = 0.0;
    let mut returns: Vec<f64> = attempt
        .call_rewards
        .iter()
        .flatten()
        .rev()
        .map(|reward| {
            sum += reward;
            sum
        })
        .collect();
    returns.reverse();
    returns
}

fn example(
    group: &Group,
    rewards: &[Option<f64>],
    advantages: &[f64],
    by_turn: Option<&TurnBaseline>,
    settings: &GrpoSettings,
    merged: &mut Merged,
) -> Option<Example> {
    let (mut rows, mut pushes) = (Vec::new(), Vec::new());
    for ((attempt, reward), advantage) in group.attempts.iter().zip(rewards).zip(advantages) {
        let truncated = attempt.calls.iter().any(|call: &Call| call.truncated);
        let teaches = reward.is_some() && *advantage != 0.0;
        if !teaches || (truncated && settings.mask_truncated) {
            continue;
        }
        // Without usable log-probabilities there is no policy gradient.
        let Some(merged_rows) = merge(&attempt.calls, merged) else { continue };
        let turns = by_turn.map(|baseline| (baseline, returns(attempt)));
        for row in merged_rows {
            pushes.push(match &turns {
                Some((baseline, returns)) if returns.len() == attempt.calls.len() => {
                    let eps = settings.advantage.eps;
                    let of = |call: usize| (returns[call] - baseline.mean) / (baseline.std + eps);
                    let tokens = row.calls.iter();
                    Advantage::Tokens(
                        tokens.flat_map(|(call, said)| vec![of(*call); *said]).collect(),
                    )
                }
                _ => Advantage::Row(*advantage),
            });
            rows.push(row.row);
        }
    }
    (!rows.is_empty()).then_some(Example { rows, kind: Kind::Compare { advantages: pushes } })
}

impl RolloutMetrics {
    fn describe(&mut self, groups: &[Group]) {
        let attempts: Vec<&Attempt> = groups.iter().flat_map(|group| &group.attempts).collect();
        let count = attempts.len().max(1) as f64;
        self.attempts = attempts.len() as u64;
        self.failed = attempts.iter().filter(|attempt| attempt.failed).count() as u64;
        let rewards: Vec<f64> = attempts.iter().filter_map(|attempt| attempt.reward).collect();
        self.no_opinion = (attempts.len() - rewards.len()) as u64;
        self.reward = mean(&rewards);
        let mut parts: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        let mut words: BTreeMap<&str, usize> = BTreeMap::new();
        for attempt in &attempts {
            for (name, value) in &attempt.components {
                parts.entry(name).or_default().extend(value);
            }
            *words.entry(attempt.text.trim()).or_default() += 1;
        }
        self.parts = parts
            .into_iter()
            .filter_map(|(name, values)| Some((name.to_owned(), mean(&values)?)))
            .collect();
        // Groups of one prompt may well agree; it is agreement across prompts that is suspicious.
        let common = words.values().max().copied().unwrap_or(0) as f64;
        self.same_words = if groups.len() > 1 { common / count } else { 0.0 };
        let lengths: Vec<f64> = attempts
            .iter()
            .map(|attempt| {
                attempt.calls.iter().map(|c| c.completion_ids.len()).sum::<usize>() as f64
            })
            .collect();
        self.mean_length = mean(&lengths).unwrap_or(0.0);
        self.min_length = lengths.iter().copied().reduce(f64::min).unwrap_or(0.0);
        self.max_length = lengths.iter().copied().reduce(f64::max).unwrap_or(0.0);
        let calls = || attempts.iter().flat_map(|attempt| &attempt.calls);
        let tokens = calls().map(|call| call.completion_ids.len()).sum::<usize>().max(1);
        self.forced = calls().map(|call| call.forced.len()).sum::<usize>() as f64 / tokens as f64;
        let clipped = attempts.iter().filter(|a| a.calls.iter().any(|call| call.truncated)).count();
        self.clipped = clipped as f64 / count;
        self.turns = attempts.iter().map(|attempt| attempt.calls.len() as f64).sum::<f64>() / count;
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

#[cfg(test)]
mod tests;
