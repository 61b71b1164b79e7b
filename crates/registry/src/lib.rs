//! Which adapters exist, who answers for them, which one serves, and how that came about.
//!
//! Three things are kept apart: an adapter version (its content never changes, evidence about it is
//! only added), the channel (the one pointer per task that says what serves, with its history), and
//! a release (the act of taking a candidate to the channel, or back).
//!
//! Guarantees: a version is visible only with all of its files, and the same content has one version
//! per task; what `Ok` was returned for survives power loss; every change names an owner and a
//! reason and is one commit with its entry in a hash chain, which [`Registry::verify_audit`] checks
//! against what the tables say; a candidate without a passing report is released only by an override
//! that is marked for ever; a rollback needs no evidence, no revision and no permission, and returns
//! to what served last; repeating a command that has been carried out changes nothing.
//!
//! Never: loads weights, routes traffic, judges evidence, or reads the wall clock to date a change
//! (callers pass a [`Clock`](understudy_ident::Clock)).

mod adapter;
mod artifact;
mod audit;
mod change;
mod channel;
mod error;
mod registry;
mod release;

pub use adapter::{Adapter, AdapterRecord, ReportRecord, Revocation, Status};
pub use audit::{AuditEntry, AuditHead};
pub use change::Change;
pub use channel::{ChannelMove, Target};
pub use error::RegistryError;
pub use registry::Registry;
pub use release::{Override, ReleaseRecord, ReleaseState, RollbackTarget, StartRelease};

#[cfg(test)]
mod tests;
