//! A lesson: in which situation, what to prefer or avoid, and on what evidence.
//!
//! `T` is the text of a scope and `N` a name of the catalogue. With plain strings in their places an
//! item can be read from JSON; turning such a one into a [`DeploymentItem`] is left to the store
//! that wrote it.

mod write;

use std::fmt;

use serde::{Deserialize, Serialize};
use understudy_ident::{Digest, Id, IdKind, Timestamp};

pub use write::Written;

use crate::{Declared, DeploymentText, ErrorSignature, Keyed, UserText};

/// The kind of id a lesson has.
#[derive(Debug, Clone, Copy)]
pub enum MemoryKind {}

impl IdKind for MemoryKind {
    const PREFIX: &'static str = "mem";
    const WHAT: &'static str = "memory";
}

/// Stable across revisions.
pub type MemoryId = Id<MemoryKind>;

/// A lesson every user of the tenant may profit from.
pub type DeploymentItem = Item<DeploymentText>;
/// A lesson of one user.
pub type UserItem = Item<UserText>;

/// One revision of a lesson; a change is another revision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Item<T, N = Declared> {
    pub id: MemoryId,
    pub rev: u32,
    pub kind: Kind,
    pub agent: Option<N>,
    pub pattern: Pattern<N>,
    pub situation: Situation<T, N>,
    pub strategy: Strategy<T, N>,
    pub evidence: Evidence,
    pub provenance: Provenance,
    /// Of the schemas of the tools it names, when it was learnt.
    pub tool_fingerprint: Digest,
    pub valid_from: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// What it takes the place of, once it is active: one lesson said better or, with others, split
    /// into parts; or several joined.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub supersedes: Vec<MemoryId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Strategy,
    Avoid,
    Recovery,
    Workflow,
    Preference,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Strategy => "strategy",
            Self::Avoid => "avoid",
            Self::Recovery => "recovery",
            Self::Workflow => "workflow",
            Self::Preference => "preference",
        }
    }
}

/// The kind of task a lesson belongs to: by name where the operator declared it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Pattern<N> {
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    pub intent: Option<N>,
    pub key: Keyed,
}

/// When a lesson applies. Retrieval searches this; prompts show the strategy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Situation<T, N> {
    /// All of them must be available.
    pub tools: Vec<N>,
    /// The site, server or application, by keyed hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Keyed>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorSignature>,
    pub text: T,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Strategy<T, N> {
    pub text: T,
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    pub prefer_tools: Vec<N>,
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    pub avoid_tools: Vec<N>,
    /// At most four: a lesson is no script.
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    pub order: Vec<N>,
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    pub parallel: Vec<N>,
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<Parameter<N>>,
    /// For a recovery: which of the four ways out it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tactic: Option<Tactic>,
}

/// An argument that helps, with a typed placeholder or a declared value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Parameter<N> {
    pub tool: N,
    pub key: N,
    pub shape: crate::Shape,
}

/// Ways out of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tactic {
    /// Another way to the same tool: a step before it.
    FallbackPath,
    /// The same tool with other arguments.
    RetryVariation,
    AlternativeTool,
    Escalate,
}

impl std::str::FromStr for Tactic {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let quoted = serde_json::Value::String(text.to_owned());
        serde_json::from_value(quoted).map_err(|_| {
            format!(
                "{text:?} is no way out of a failure; use fallback_path, retry_variation, \
                 alternative_tool or escalate"
            )
        })
    }
}

/// Why anybody should believe it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Evidence {
    pub groups: u64,
    pub episodes: u64,
    pub users: u64,
    pub winners: u64,
    pub losers: u64,
    /// How much more often winners did it than losers, and the 90 % interval of that.
    pub lift: f64,
    pub lift_interval: [f64; 2],
    /// One-sided, Fisher.
    pub p: f64,
    pub agreement: Agreement,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Agreement {
    /// Teacher and students said the same.
    Agreed,
    /// They did not, and a verifier decided.
    Verified,
    /// No runs were repeated: users' outcomes decided what was good.
    Outcomes,
    /// A person said so.
    #[default]
    Stated,
}

/// Where it came from, without leading back to anybody.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    pub job: Keyed,
    /// Keyed by tenant; the trace store can find the traces, nobody else.
    pub sources: Vec<Keyed>,
    /// The runs and cases that sources were attempts at, likewise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<Keyed>,
    pub distiller: Distiller,
}

impl Provenance {
    /// Whether a trace, or an attempt at its request, is behind the lesson.
    pub fn is_of(&self, source: &Keyed) -> bool {
        self.sources.contains(source) || self.origins.contains(source)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Distiller {
    Template,
    Teacher,
    Human,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Proposed,
    Validated,
    Active,
    Suspended,
    Retired,
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Proposed => "proposed",
            Self::Validated => "validated",
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Retired => "retired",
        }
    }
}

impl std::str::FromStr for Status {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let quoted = serde_json::Value::String(text.to_owned());
        serde_json::from_value(quoted).map_err(|_| {
            format!(
                "{text:?} is no status; use one of proposed, validated, active, suspended, retired"
            )
        })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<T: Serialize, N: Serialize> Item<T, N> {
    /// Of the canonical JSON of this revision.
    pub fn digest(&self) -> Digest {
        Digest::of(serde_json::to_string(self).unwrap_or_default().as_bytes())
    }
}

impl<T, N: AsRef<str>> Item<T, N> {
    /// Every tool it names, once.
    pub fn tools(&self) -> Vec<&str> {
        let strategy = &self.strategy;
        let named = [&self.situation.tools, &strategy.prefer_tools, &strategy.avoid_tools];
        let mut tools: Vec<&str> = named
            .into_iter()
            .chain([&strategy.order, &strategy.parallel])
            .flatten()
            .map(AsRef::as_ref)
            .collect();
        tools.sort_unstable();
        tools.dedup();
        tools
    }
}

impl<T, N> Item<T, N> {
    /// The same item with texts and names of other types.
    pub(crate) fn map<U, M>(
        self,
        mut text: impl FnMut(T) -> U,
        mut name: impl FnMut(N) -> M,
    ) -> Item<U, M> {
        let mut names = |all: Vec<N>| all.into_iter().map(&mut name).collect::<Vec<M>>();
        let (situation, strategy) = (self.situation, self.strategy);
        let situation = Situation {
            tools: names(situation.tools),
            target: situation.target,
            error: situation.error,
            text: text(situation.text),
        };
        let prefer_tools = names(strategy.prefer_tools);
        let avoid_tools = names(strategy.avoid_tools);
        let (order, parallel) = (names(strategy.order), names(strategy.parallel));
        let parameters = strategy.parameters.into_iter().map(|parameter| Parameter {
            tool: name(parameter.tool),
            key: name(parameter.key),
            shape: parameter.shape,
        });
        let strategy = Strategy {
            text: text(strategy.text),
            prefer_tools,
            avoid_tools,
            order,
            parallel,
            parameters: parameters.collect(),
            tactic: strategy.tactic,
        };
        let pattern = Pattern { intent: self.pattern.intent.map(&mut name), key: self.pattern.key };
        Item {
            id: self.id,
            rev: self.rev,
            kind: self.kind,
            agent: self.agent.map(&mut name),
            pattern,
            situation,
            strategy,
            evidence: self.evidence,
            provenance: self.provenance,
            tool_fingerprint: self.tool_fingerprint,
            valid_from: self.valid_from,
            expires_at: self.expires_at,
            supersedes: self.supersedes,
        }
    }
}

impl AsRef<str> for Declared {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}
