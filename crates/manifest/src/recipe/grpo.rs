//! A GRPO stage: where its groups come from, what rewards them, and how they move the policy.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{AdvantageSettings, PolicySettings, RewardSpec, SettingError};

/// What a GRPO stage is told beyond the optimiser's numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrpoSettings {
    pub source: GroupSource,
    /// The environment of `source = "environment"`, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// Attempts at each prompt.
    pub group_size: usize,
    /// At most so many tokens in one completion.
    pub max_new_tokens: u32,
    pub temperature: f64,
    /// What every attempt must be, whatever the model would rather say: for a policy that is served
    /// under the same constraint. Tokens that must follow are neither drawn nor trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constraint: Option<RolloutConstraint>,
    /// Optimiser steps taken on the same attempts; more than one makes the later ones off-policy.
    pub iterations: u32,
    /// Stop after so many rounds of attempts, whatever `epochs` says; 0 is no limit.
    pub max_rounds: u64,
    pub rewards: Vec<RewardSpec>,
    /// Normalise each reward within its group before they are added, rather than their sum.
    pub normalise_each: bool,
    pub advantage: AdvantageSettings,
    pub credit: Credit,
    /// Leave completions that ran out of room out of the gradient; they stay in the baseline.
    pub mask_truncated: bool,
    /// Over the last so many tokens before `max_new_tokens` the reward falls by up to 1; 0 is off.
    pub overlong_buffer: u32,
    /// Train on logged groups whose sampling distribution is unknown. It is biased, and the
    /// adapter's lineage says so.
    pub allow_unsound: bool,
    pub policy: PolicySettings,
}

impl Default for GrpoSettings {
    fn default() -> Self {
        Self {
            source: GroupSource::default(),
            environment: None,
            group_size: 8,
            max_new_tokens: 128,
            temperature: 1.0,
            constraint: None,
            iterations: 1,
            max_rounds: 0,
            rewards: Vec::new(),
            normalise_each: false,
            advantage: AdvantageSettings::default(),
            credit: Credit::default(),
            mask_truncated: false,
            overlong_buffer: 0,
            allow_unsound: false,
            policy: PolicySettings::default(),
        }
    }
}

/// Where groups of attempts come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupSource {
    /// Branch replay: the model answers logged prompts again, several times each.
    #[default]
    Replay,
    /// The same of everything that was asked, whatever became of the reply.
    Prompts,
    /// Groups and pairs as they were recorded, with the sampler's log-probabilities.
    Logged,
    /// Episodes with tools in an environment.
    Environment,
}

impl GroupSource {
    /// Whether logged prompts are answered anew.
    pub fn is_replayed(self) -> bool {
        matches!(self, Self::Replay | Self::Prompts)
    }
}

/// A language that attempts belong to, as in a request's `response_format`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RolloutConstraint {
    /// Any JSON object.
    JsonObject,
    /// JSON that this schema accepts.
    JsonSchema(Value),
    Regex(String),
    /// Exactly one of these.
    Choice(Vec<String>),
}

/// What an advantage is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Credit {
    /// Every token of a trajectory has the trajectory's advantage.
    #[default]
    Trajectory,
    /// Every token has the advantage of its own turn's reward and those that follow it.
    Turn,
}

impl GrpoSettings {
    /// Refuses what cannot work, by key.
    pub fn check(&self) -> Result<(), SettingError> {
        let holds = |holds: bool, key: &'static str, what: &str| {
            if holds { Ok(()) } else { Err(SettingError { key, what: what.to_owned() }) }
        };
        holds(
            self.group_size >= 2,
            "group_size",
            "must be at least 2: a lone attempt has no group",
        )?;
        holds(self.group_size <= 1024, "group_size", "must be at most 1024")?;
        holds(self.max_new_tokens > 0, "max_new_tokens", "must be at least 1")?;
        holds(
            self.temperature > 0.0 && self.temperature <= 2.0,
            "temperature",
            "must be above 0 and at most 2: greedy attempts are all the same",
        )?;
        holds(self.iterations >= 1, "iterations", "must be at least 1")?;
        let sampled = self.source != GroupSource::Logged;
        holds(sampled || self.iterations == 1, "iterations", "only applies to fresh attempts")?;
        holds(
            !self.allow_unsound || !sampled,
            "allow_unsound",
            "only applies to source = \"logged\"",
        )?;
        holds(
            self.constraint.is_none() || self.source.is_replayed(),
            "constraint",
            "only applies to source = \"replay\" or \"prompts\": a constrained call could use no tool",
        )?;
        let in_environment = self.source == GroupSource::Environment;
        holds(
            in_environment == self.environment.is_some(),
            "environment",
            "belongs to source = \"environment\", which needs one",
        )?;
        holds(
            !self.source.is_replayed() || !self.rewards.is_empty(),
            "rewards",
            "must name at least one reward, such as [\"json_valid\", \"field_f1\"]",
        )?;
        holds(
            self.source != GroupSource::Prompts
                || self.rewards.iter().any(|reward| !reward.verify.compares()),
            "rewards",
            "only compare with a known answer, which prompts have none of: add one that judges by \
             itself, such as \"json_valid\", { verify = \"command\", … } or { verify = \"judge\", … }",
        )?;
        holds(
            self.credit == Credit::Trajectory || in_environment,
            "credit",
            "by turn needs source = \"environment\", whose turns have rewards of their own",
        )?;
        holds(
            self.overlong_buffer < self.max_new_tokens || self.overlong_buffer == 0,
            "overlong_buffer",
            "must be less than max_new_tokens",
        )?;
        self.advantage.check()?;
        self.policy.check()
    }
}
