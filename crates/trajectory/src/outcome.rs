//! What the user or a verifier did about a reply, as an immutable event.

use serde::{Deserialize, Serialize};
use understudy_ident::{Id, IdKind, OutcomeId, TenantName, Timestamp, kind};

/// One fact. A change of mind is another outcome, never an edit of this one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Chosen by the client for idempotency, or minted on arrival: the same id is stored once.
    pub id: OutcomeId,
    pub target: Target,
    pub signal: Signal,
    pub source: Source,
    pub at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// What else was told about it. No reward depends on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Box<Details>>,
}

/// Where and by whom an outcome was told, and how sure they were.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Details {
    /// How much of the conversation is meant, where its target alone does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// Which message within the target, by the client's own name for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// A category beside the judgement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Between 0 and 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    /// Who or what judged: a reviewer, a program or a model, and its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Context>,
}

impl Details {
    /// `None` where nothing is told.
    pub fn told(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }
}

/// What a judgement is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Message,
    Step,
    Turn,
    Trajectory,
}

/// Where a person was when they judged. Who is never asked does not answer, so whether they were
/// asked is part of the evidence.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// The part of the application.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub surface: Option<String>,
    /// Whether the person was asked for a judgement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown_prompt: Option<bool>,
    /// How long the reply had been on view, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dwell_ms: Option<u64>,
    /// Its place among the replies on view, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u32>,
}

/// What an outcome is about. It may arrive before or long after its target. A trajectory, session or
/// turn stands for its last step at the time of the outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", content = "id", rename_all = "snake_case")]
pub enum Target {
    Response(String),
    Step(String),
    Trajectory(String),
    Session(String),
    /// One exchange of a session: the steps that were asked with so many messages of the user, of
    /// which the first is turn 1.
    Turn {
        session: String,
        turn: u32,
    },
}

impl Outcome {
    /// The outcome under an id of this tenant's, about what has such ids.
    #[must_use]
    pub fn within(self, tenant: Option<&TenantName>) -> Self {
        let target = match self.target {
            Target::Step(id) => Target::Step(text_within::<kind::Step>(&id, tenant)),
            Target::Trajectory(id) => {
                Target::Trajectory(text_within::<kind::Trajectory>(&id, tenant))
            }
            // Of these only the tenant's own are meant, whatever they are called.
            other @ (Target::Response(_) | Target::Session(_) | Target::Turn { .. }) => other,
        };
        Self { id: self.id.within(tenant), target, ..self }
    }
}

fn text_within<K: IdKind>(text: &str, tenant: Option<&TenantName>) -> String {
    text.parse::<Id<K>>().map_or_else(|_| text.to_owned(), |id| id.within(tenant).to_string())
}

/// What the note of a verifier's outcome begins with, where it names the problem it is about.
const PROBLEM: &str = "problem ";

impl Outcome {
    /// The note that says which problem was attempted: trajectories with the same one can be
    /// compared by their scores, whatever was said in them.
    pub fn note_of_problem(name: &str) -> String {
        format!("{PROBLEM}{name}")
    }

    /// Which problem the whole trajectory attempted, and how well, where a program says so.
    pub fn attempt(&self) -> Option<(&str, f64)> {
        let Signal::Verifier { score, .. } = self.signal else { return None };
        let problem = self.note.as_deref()?.strip_prefix(PROBLEM)?;
        (self.source == Source::Automated).then_some((problem, score))
    }

    /// On which side of the contrast between the attempts at its problem this one is, where whoever
    /// scored them says so.
    pub fn side(&self) -> Option<Side> {
        self.attempt()?;
        let label = self.details.as_ref()?.label.as_deref()?;
        [Side::Winner, Side::Loser, Side::Neither].into_iter().find(|side| side.as_str() == label)
    }
}

/// How an attempt did beside the others at its problem. Between two that both went well, a higher
/// score is no reason to prefer one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Winner,
    Loser,
    Neither,
}

impl Side {
    /// The label that an outcome has for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Winner => "winner",
            Self::Loser => "loser",
            Self::Neither => "neither",
        }
    }
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Signal {
    /// Used as it was.
    Accept,
    /// Used after this change.
    Edit { text: String },
    /// Asked for another reply to the same prompt; `kept` names the reply that was used in the
    /// end, when the client knows it.
    Regenerate {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kept: Option<String>,
    },
    /// Left without using it.
    Abandon,
    /// A rating between 0 and 1.
    Rating { value: f64 },
    /// An automated check with a score between 0 and 1.
    Verifier { name: String, score: f64 },
    /// Reported as harmful: counts against safety, whatever else was said.
    Flag { reason: String },
    /// Said without a judgement of ours: a category of somebody's own, or a comment. It is kept, and
    /// counts for nothing in a reward.
    Remark { name: String, text: String },
}

impl Signal {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Edit { .. } => "edit",
            Self::Regenerate { .. } => "regenerate",
            Self::Abandon => "abandon",
            Self::Rating { .. } => "rating",
            Self::Verifier { .. } => "verifier",
            Self::Flag { .. } => "flag",
            Self::Remark { .. } => "remark",
        }
    }
}

/// Whether somebody said so, it was inferred from behaviour, or a program decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    Explicit,
    Implicit,
    Automated,
}
