//! Typed identifiers: ids, names, digests, versions and the clock.
//!
//! Guarantees: a value of any type here is well formed (it was parsed once, at the rim), sorts and
//! prints stably, and two kinds of id cannot be mixed up.
//!
//! Never: does IO, other than reading the wall clock behind [`Clock`].

mod clock;
mod digest;
mod id;
mod name;
mod pieces;
mod tenant;
mod text;
mod version;

pub use clock::{Clock, ManualClock, SystemClock, Timestamp};
pub use digest::{Digest, Hasher};
pub use id::{Id, IdKind, OutcomeId, ReleaseId, RunId, StepId, TrajectoryId, kind};
pub use name::TaskName;
pub use pieces::{PIECE, Piece};
pub use tenant::TenantName;
pub use version::{AdapterVersion, DatasetVersion};

/// Why a piece of text is not the identifier it was meant to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentError {
    #[error(
        "{text:?} is not a {what} id: expected `{prefix}_` followed by 1 to 120 of a-z, A-Z, 0-9, `-`, `_`, `.`"
    )]
    Id { what: &'static str, prefix: &'static str, text: String },
    #[error(
        "{text:?} is not a task name: use 1 to 64 of a-z, 0-9 and `-`, starting with a letter, with `tenant.` before it where it is a tenant's"
    )]
    TaskName { text: String },
    #[error(
        "{text:?} is not a tenant's name: use 1 to 32 of a-z, 0-9 and `-`, starting with a letter"
    )]
    TenantName { text: String },
    #[error("{text:?} is not a digest: expected 64 hexadecimal characters")]
    Digest { text: String },
    #[error("{text:?} is not an adapter version: expected `task@N` with N counted from 1")]
    AdapterVersion { text: String },
    #[error("{text:?} is not a dataset version: expected `name@digest`")]
    DatasetVersion { text: String },
}

#[cfg(test)]
mod tests;
