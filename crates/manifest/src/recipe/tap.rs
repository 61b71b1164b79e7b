//! What stands beside the arms of a task: a teacher that observes or is called in, a candidate that
//! is only watched, and who steps in for an arm that fails.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

/// `[release.observe]`: the student answers, and the teacher answers the same beside it, unseen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observe {
    /// The share of replies it is asked beside, drawn for each reply anew.
    pub share: f64,
    /// The share where a cue spoke against the student's reply; left out, the same. Each step
    /// records the share it was drawn at, so that estimates can be reweighted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_cue: Option<f64>,
}

impl Observe {
    /// The share that applies to a reply.
    pub fn share(&self, cued: bool) -> f64 {
        self.on_cue.filter(|_| cued).unwrap_or(self.share)
    }
}

/// `[release.escalate]`: the teacher answers in the student's stead where a cue says so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Escalate {
    pub on: BTreeSet<Cue>,
    /// `low_confidence` speaks when any token's log-probability is below this,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_log_prob: Option<f64>,
    /// or when their mean is below this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_log_prob: Option<f64>,
    /// What the client gets when the teacher's budget is spent.
    pub exhausted: Exhausted,
    /// Whether streams are kept back until the student's reply has been looked at. Without it what
    /// is streamed can only be escalated because a client asked for it.
    pub hold_streams: bool,
}

impl Default for Escalate {
    fn default() -> Self {
        Self {
            on: [Cue::InvalidTools, Cue::InvalidFormat, Cue::Empty, Cue::Asked].into(),
            min_log_prob: None,
            mean_log_prob: None,
            exhausted: Exhausted::Student,
            hold_streams: true,
        }
    }
}

/// What can speak against a student's reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cue {
    /// A call of an unknown tool, or with arguments its schema does not allow.
    InvalidTools,
    /// Not the JSON that was asked for.
    InvalidFormat,
    Refusal,
    /// Neither text nor a call.
    Empty,
    LowConfidence,
    /// The client said so in `x-understudy-escalate`.
    Asked,
}

impl Cue {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidTools => "invalid_tools",
            Self::InvalidFormat => "invalid_format",
            Self::Refusal => "refusal",
            Self::Empty => "empty",
            Self::LowConfidence => "low_confidence",
            Self::Asked => "asked",
        }
    }
}

impl fmt::Display for Cue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an escalation that nobody pays for becomes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exhausted {
    /// The student's own reply.
    #[default]
    Student,
    Error,
}

/// `[release.shadow]`: the candidate answers beside the stable arm, unseen, and acts on nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shadow {
    /// The share of the stable arm's replies, drawn for each reply anew.
    pub share: f64,
}

/// Who steps in, in this order, for an arm that fails before it has said anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fallback {
    Stable,
    /// Within its budget.
    Teacher,
}
