//! What a key is for.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use understudy_ident::TaskName;

use crate::AccessError;

/// One thing that may be done. Append-only: a name is in the audit chain for ever.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Ask any model for tokens.
    Infer,
    /// Ask this task, and nothing else. A tenant's own name for it.
    InferTask(TaskName),
    /// Say what users did, and read what was said.
    Feedback,
    /// Send telemetry.
    Telemetry,
    /// Look at tasks, adapters and routes.
    Read,
    /// Read what was said: it is in no role, because most who look after models need no words of
    /// anybody.
    TrajectoryRead,
    /// Load, unload and roll back adapters by hand; without a tenant also pause and resume.
    AdapterWrite,
    /// Start, promote, pause and roll back releases, as far as the registry lets the key's owner.
    Release,
    /// Figures over all tenants.
    Metrics,
    /// The audit chain, which is over all tenants.
    AuditRead,
    /// Everything, on behalf of whoever runs the server.
    Admin,
}

const PLAIN: [(&str, Scope); 10] = [
    ("infer", Scope::Infer),
    ("feedback", Scope::Feedback),
    ("telemetry", Scope::Telemetry),
    ("read", Scope::Read),
    ("trajectory:read", Scope::TrajectoryRead),
    ("adapter:write", Scope::AdapterWrite),
    ("release", Scope::Release),
    ("metrics", Scope::Metrics),
    ("audit:read", Scope::AuditRead),
    ("admin", Scope::Admin),
];

impl Scope {
    /// Whether it can be had only by a key that is no tenant's.
    pub fn is_beyond_tenants(&self) -> bool {
        matches!(self, Self::Release | Self::Metrics | Self::AuditRead | Self::Admin)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::InferTask(task) = self {
            return write!(f, "infer:{task}");
        }
        let named = PLAIN.iter().find(|(_, scope)| scope == self);
        f.write_str(named.map_or("", |(name, _)| name))
    }
}

impl FromStr for Scope {
    type Err = AccessError;

    fn from_str(text: &str) -> Result<Self, AccessError> {
        if let Some((_, scope)) = PLAIN.into_iter().find(|(name, _)| *name == text) {
            return Ok(scope);
        }
        let task = text.strip_prefix("infer:").and_then(|task| task.parse::<TaskName>().ok());
        // The tenant is the key's, whatever the task is called.
        task.filter(|task| task.tenant().is_none()).map(Self::InferTask).ok_or_else(|| {
            let names = PLAIN.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
            AccessError::Scope { text: text.to_owned(), known: format!("{names} or infer:TASK") }
        })
    }
}

impl Serialize for Scope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// What a key may do, altogether.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Scopes(BTreeSet<Scope>);

impl Scopes {
    pub fn allows(&self, scope: &Scope) -> bool {
        self.0.contains(&Scope::Admin) || self.0.contains(scope) || self.is_narrower(scope)
    }

    /// Asking for tokens at all is allowed to who may ask one task; which one is checked once that
    /// is known, by [`may_ask`](Self::may_ask).
    fn is_narrower(&self, scope: &Scope) -> bool {
        let one_task = || self.0.iter().any(|scope| matches!(scope, Scope::InferTask(_)));
        *scope == Scope::Infer && one_task()
    }

    /// Whether tokens may be asked of what the key's holder calls `model`.
    pub fn may_ask(&self, model: &str) -> bool {
        self.0.contains(&Scope::Admin)
            || self.0.contains(&Scope::Infer)
            || self
                .0
                .iter()
                .any(|scope| matches!(scope, Scope::InferTask(task) if task.as_str() == model))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Scope> {
        self.0.iter()
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().collect())
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, scope) in self.0.iter().enumerate() {
            write!(f, "{}{scope}", if nth == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

/// Scopes that go together. People have the names that the registry has for them, and what they
/// may do to a release is what the registry's roles say of the key's owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Application,
    Engineer,
    ReleaseManager,
    OnCall,
    Monitor,
    Admin,
}

impl Role {
    pub const ALL: [Self; 6] = [
        Self::Application,
        Self::Engineer,
        Self::ReleaseManager,
        Self::OnCall,
        Self::Monitor,
        Self::Admin,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Application => "application",
            Self::Engineer => "engineer",
            Self::ReleaseManager => "release_manager",
            Self::OnCall => "on_call",
            Self::Monitor => "monitor",
            Self::Admin => "admin",
        }
    }

    /// What the role may do; for a tenant only what stays within it.
    pub fn scopes(self, of_tenant: bool) -> Scopes {
        let all: &[Scope] = match self {
            Self::Application => &[Scope::Infer, Scope::Feedback, Scope::Telemetry],
            Self::Engineer => {
                &[Scope::Infer, Scope::Feedback, Scope::Telemetry, Scope::Read, Scope::Release]
            }
            Self::ReleaseManager => {
                &[Scope::Read, Scope::Release, Scope::Metrics, Scope::AuditRead]
            }
            Self::OnCall => &[Scope::Read, Scope::Release, Scope::Metrics, Scope::AdapterWrite],
            Self::Monitor => &[Scope::Metrics],
            Self::Admin => &[Scope::Admin],
        };
        all.iter().filter(|scope| !(of_tenant && scope.is_beyond_tenants())).cloned().collect()
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = AccessError;

    fn from_str(text: &str) -> Result<Self, AccessError> {
        let name = text.replace('-', "_");
        Self::ALL.into_iter().find(|role| role.as_str() == name).ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str).join(", ");
            AccessError::Role { text: text.to_owned(), known }
        })
    }
}
