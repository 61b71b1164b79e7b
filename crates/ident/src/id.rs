//! Ids with a kind: `step_0192…` cannot be passed where a `run_…` is wanted.

use std::{fmt, hash, marker::PhantomData, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{IdentError, TenantName};

/// What an id is an id of. Append-only: a prefix is on disk for ever.
pub trait IdKind {
    const PREFIX: &'static str;
    const WHAT: &'static str;
}

/// An id of kind `K`: a prefix and a suffix that sorts by creation time when we minted it.
pub struct Id<K> {
    text: String,
    kind: PhantomData<fn() -> K>,
}

pub type TrajectoryId = Id<kind::Trajectory>;
pub type StepId = Id<kind::Step>;
pub type OutcomeId = Id<kind::Outcome>;
pub type RunId = Id<kind::Run>;
pub type ReleaseId = Id<kind::Release>;

/// The kinds of id, one empty type each.
pub mod kind {
    use super::IdKind;

    macro_rules! kinds {
        ($($name:ident $prefix:literal $what:literal;)*) => {$(
            #[derive(Debug, Clone, Copy)]
            pub enum $name {}
            impl IdKind for $name {
                const PREFIX: &'static str = $prefix;
                const WHAT: &'static str = $what;
            }
        )*};
    }

    kinds! {
        Outcome "out" "outcome";
        Release "rel" "release";
        Run "run" "run";
        Step "step" "step";
        Trajectory "traj" "trajectory";
    }
}

impl<K: IdKind> Id<K> {
    /// A fresh id; later ids sort after earlier ones (UUID version 7).
    pub fn generate() -> Self {
        Self::of(&uuid::Uuid::now_v7().simple().to_string())
    }

    /// The id a foreign name maps to, always the same one: a client's own session name, say.
    pub fn derived(from: &str) -> Self {
        Self::of(&blake3::hash(from.as_bytes()).to_hex()[..32])
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whose it is: `out_acme.0192…` is the tenant `acme`'s, and an id without a dot belongs to
    /// whoever runs the server.
    pub fn tenant(&self) -> Option<&str> {
        TenantName::marking(self.suffix())
    }

    /// The id that this one is within a tenant, so that no two tenants can name the same thing
    /// whatever they choose. What is the tenant's already stays what it is.
    #[must_use]
    pub fn within(&self, tenant: Option<&TenantName>) -> Self {
        let wanted = tenant.map(TenantName::as_str);
        if self.tenant() == wanted {
            return self.clone();
        }
        let Some(tenant) = wanted else { return Self::derived(&self.text) };
        match format!("{}_{tenant}.{}", K::PREFIX, self.suffix()).parse() {
            Ok(id) => id,
            // Too long for both, so a digest stands for what it was.
            Err(_) => Self::of(&format!("{tenant}.{}", Self::derived(&self.text).suffix())),
        }
    }

    fn suffix(&self) -> &str {
        &self.text[K::PREFIX.len() + 1..]
    }

    fn of(suffix: &str) -> Self {
        Self { text: format!("{}_{suffix}", K::PREFIX), kind: PhantomData }
    }
}

impl<K: IdKind> FromStr for Id<K> {
    type Err = IdentError;

    fn from_str(text: &str) -> Result<Self, IdentError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let suffix = text.strip_prefix(K::PREFIX).and_then(|rest| rest.strip_prefix('_'));
        match suffix {
            Some(suffix) if (1..=120).contains(&suffix.len()) && suffix.chars().all(allowed) => {
                Ok(Self { text: text.to_owned(), kind: PhantomData })
            }
            _ => Err(IdentError::Id { what: K::WHAT, prefix: K::PREFIX, text: text.to_owned() }),
        }
    }
}

// Written out because derives would demand the same traits of the kind, which is never a value.
impl<K> Clone for Id<K> {
    fn clone(&self) -> Self {
        Self { text: self.text.clone(), kind: PhantomData }
    }
}

impl<K> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl<K> Eq for Id<K> {}

impl<K> PartialOrd for Id<K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<K> Ord for Id<K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}

impl<K> hash::Hash for Id<K> {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl<K> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<K> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<K> Serialize for Id<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de, K: IdKind> Deserialize<'de> for Id<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
