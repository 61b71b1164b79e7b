//! One model call, exactly as it happened.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use understudy_ident::{StepId, TaskName, TenantName, Timestamp, TrajectoryId};
use understudy_inference::{FinishReason, Served, Timing, TokenRecord, Usage};
use understudy_message::{Message, Role};

use crate::Course;

/// What the gateway hands to the journal for every exchange.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    pub id: StepId,
    pub trajectory: TrajectoryId,
    pub task: TaskName,
    /// The client's own name for the session, when it sent one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Whose request it was (the `user` of the OpenAI body): what erasure and balancing act on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// What the client noted beside its request (the `metadata` of the OpenAI body). A recipe may
    /// leave steps out by it; nothing else is decided by it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// The `id` of the reply, which clients quote in outcomes.
    pub response_id: String,
    pub at: Timestamp,
    pub prompt: Vec<Message>,
    /// Definitions of the tools that it was told it may call, in the OpenAI form: they are part of
    /// what the model read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Value>,
    pub reply: Message,
    pub finish_reason: FinishReason,
    /// `None` for imported steps, whose arm nobody chose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignment: Option<Assignment>,
    pub served: Served,
    pub usage: Usage,
    pub timing: Timing,
    /// Present when our own engine answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<TokenRecord>,
    /// The request failed with this message; the reply holds what had been sent until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Step {
    /// The step under ids of this tenant's, so that it cannot be taken for another tenant's.
    #[must_use]
    pub fn within(self, tenant: Option<&TenantName>) -> Self {
        let (id, trajectory) = (self.id.within(tenant), self.trajectory.within(tenant));
        Self { id, trajectory, ..self }
    }

    /// Which exchange of its session it belongs to: how many messages of the user it was asked with.
    /// A model that goes on after a tool, and one that is asked again, are in the same turn.
    pub fn turn(&self) -> u32 {
        let said = self.prompt.iter().filter(|message| message.role == Role::User);
        said.count().try_into().unwrap_or(u32::MAX)
    }
}

/// How the router chose, so that any analysis can be redone from the record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    pub arm: Arm,
    /// Whether the step belongs to the comparison: the canary's slice or its equal, concurrent
    /// slice of the stable arm.
    pub analysed: bool,
    /// What was hashed: a trajectory, session or user name.
    pub unit: String,
    /// The hash, of 2^64.
    pub u: u64,
    /// The release in progress, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// What happened on the way to the reply; most take no turn at all.
    #[serde(default, skip_serializing_if = "Course::is_plain")]
    pub course: Course,
}

/// What a request can be routed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arm {
    Teacher,
    Stable,
    Canary,
    Shadow,
    Base,
}

impl Arm {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Teacher => "teacher",
            Self::Stable => "stable",
            Self::Canary => "canary",
            Self::Shadow => "shadow",
            Self::Base => "base",
        }
    }
}

impl fmt::Display for Arm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
