//! The `[release]` table: how a candidate meets users, and what sends it back.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

use super::tap::{Escalate, Fallback, Observe, Shadow};

/// How a candidate meets users.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Release {
    /// The canary's share in percent, step by step; an equal slice of the stable arm runs beside
    /// it, so the share under comparison is at most 50. A last step of 100 means promotion.
    pub steps: Vec<u8>,
    /// Judged units each slice needs before the next step.
    pub min_outcomes_per_step: u64,
    /// The share of traffic that always goes to the teacher.
    pub tap: f64,
    pub rollback_on: BTreeSet<Guard>,
    /// Promote when the canary is worse than the stable arm by less than this, with certainty.
    pub margin: f64,
    /// A reply slower than this counts against the latency guard. Where nothing is said, 95 of 100
    /// replies of the stable arm, in the week before the candidate came on stage, were faster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_slo_ms: Option<f64>,
    /// The same for a reply's first token, which the guard `first_token` watches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_token_slo_ms: Option<f64>,
    /// Give up undecided after this many judged units in each slice.
    pub max_outcomes: u64,
    /// How long, in seconds, each step lasts at least.
    #[serde(skip_serializing_if = "is_zero")]
    pub min_step_s: u64,
    /// Give up undecided after so many seconds, with traffic or without; after fourteen days where
    /// nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age_s: Option<u64>,
    /// How long, in seconds, a unit's rewards are waited for before it is judged, in both slices
    /// alike; later ones are not counted. At 0 each reward counts when it comes.
    #[serde(skip_serializing_if = "is_zero")]
    pub maturation_s: u64,
    /// What a unit counts as whose reward did not come in that time.
    #[serde(skip_serializing_if = "is_default")]
    pub missing: MissingReward,
    /// What to do about a canary that is proven worse, but by less than the margin.
    #[serde(skip_serializing_if = "is_default")]
    pub on_small_harm: SmallHarm,
    /// Completion tokens of one unit beyond which it counts as no costlier; without it costs are
    /// not compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_cap: Option<f64>,
    /// A reply of more tokens counts against the length guard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub long_reply_tokens: Option<u32>,
    /// The teacher beside the student.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observe: Option<Observe>,
    /// The teacher instead of the student, where a cue says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub escalate: Option<Escalate>,
    /// The candidate beside the stable arm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Shadow>,
    /// Who steps in for an arm that fails.
    #[serde(skip_serializing_if = "is_everybody")]
    pub fallback: Vec<Fallback>,
}

const EVERYBODY: [Fallback; 2] = [Fallback::Stable, Fallback::Teacher];

fn is_everybody(fallback: &[Fallback]) -> bool {
    *fallback == EVERYBODY
}

impl Default for Release {
    fn default() -> Self {
        Self {
            steps: vec![1, 5, 25, 50, 100],
            min_outcomes_per_step: 50,
            tap: 0.05,
            rollback_on: [Guard::Reward, Guard::Errors, Guard::Latency, Guard::Safety].into(),
            margin: 0.05,
            latency_slo_ms: None,
            first_token_slo_ms: None,
            max_outcomes: 5_000,
            min_step_s: 0,
            max_age_s: None,
            maturation_s: 0,
            missing: MissingReward::Exclude,
            on_small_harm: SmallHarm::RollBack,
            cost_cap: None,
            long_reply_tokens: None,
            observe: None,
            escalate: None,
            shadow: None,
            fallback: EVERYBODY.to_vec(),
        }
    }
}

/// A unit whose reward did not come in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MissingReward {
    /// It is left out, and a difference in how many are left out voids the comparison.
    #[default]
    Exclude,
    /// It counts as a reward of 0.
    WorstCase,
}

/// A canary that is proven worse, but by less than the margin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SmallHarm {
    #[default]
    RollBack,
    /// Pause, and let a person weigh it against what the canary is good for.
    Hold,
}

/// What live evidence can send a canary back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Guard {
    Reward,
    Errors,
    Latency,
    Safety,
    Cost,
    /// Calls of tools that do not exist or do not take the arguments, and formats not kept.
    Tools,
    /// Replies that ask back.
    Questions,
    /// Replies that decline.
    Refusals,
    /// Replies that are cut off, or longer than the recipe's `long_reply_tokens`.
    Length,
    /// Replies that another had to give. They count as errors as well.
    Fallback,
    /// Replies that the teacher was asked to give instead.
    Escalation,
    /// Replies whose first token came late.
    #[serde(rename = "first_token")]
    FirstToken,
}

impl Guard {
    pub const ALL: [Self; 12] = [
        Self::Reward,
        Self::Errors,
        Self::Latency,
        Self::Safety,
        Self::Cost,
        Self::Tools,
        Self::Questions,
        Self::Refusals,
        Self::Length,
        Self::Fallback,
        Self::Escalation,
        Self::FirstToken,
    ];

    /// Whether it is about what replies do; such guards are silent while nobody does it.
    pub fn is_behaviour(self) -> bool {
        self > Self::Cost
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reward => "reward",
            Self::Errors => "errors",
            Self::Latency => "latency",
            Self::Safety => "safety",
            Self::Cost => "cost",
            Self::Tools => "tools",
            Self::Questions => "questions",
            Self::Refusals => "refusals",
            Self::Length => "length",
            Self::Fallback => "fallback",
            Self::Escalation => "escalation",
            Self::FirstToken => "first_token",
        }
    }
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
