//! Which adapters exist, who answers for them, which one serves, and how that came about.
//!
//! A memory release is a version too, of a channel of its own, and goes by the same rules; its lessons
//! are never here.
//!
//! Three things are kept apart: a version (its content never changes, evidence about it is only
//! added), the channel (the one pointer per task that says what serves, with its history), and
//! a release (the act of taking a candidate to the channel, or back). What may follow what is a
//! table, [`transition_tables`], and `docs/RELEASES.md` shows it.
//!
//! Guarantees: a version is visible only with all of its files, and the same content has one version
//! per task; what `Ok` was returned for survives power loss; every change names an owner and a
//! reason and is one commit with its entry in a hash chain, which [`Registry::verify_audit`] checks
//! against what the tables say; a candidate without the evidence its task asks for is released only
//! by an override that is marked for ever; nothing stops a rollback, an abort, an undoing or a
//! revocation; repeating a command that has been carried out changes nothing.
//!
//! Never: loads weights, routes traffic, judges evidence, makes or keeps a private key, finds out
//! whether a name is true, or reads the wall clock to date a change (callers pass a
//! [`Clock`](understudy_ident::Clock)).

mod adapter;
mod approval;
mod artifact;
mod audit;
mod change;
mod channel;
mod data;
mod error;
mod fact;
mod freeze;
mod keys;
mod lifecycle;
mod lineage;
mod people;
mod protection;
mod provenance;
mod registry;
mod release;
mod request;
mod seal;
mod standing;

pub use adapter::{Adapter, AdapterRecord, Harm, InUse, ReportRecord, Revocation};
pub use approval::Approval;
pub use artifact::generation;
pub use audit::{
    AuditEntry, AuditHead, CHECKPOINT_AFTER_S, CHECKPOINT_EVERY, SignedHead, Tampering,
    verify_export,
};
pub use change::{Actor, Change, Override};
pub use channel::{Channel, ChannelMove, Target};
pub use data::Withdrawal;
pub use error::RegistryError;
pub use freeze::Freeze;
pub use keys::KeyNote;
pub use lifecycle::{Evidence, PauseReason, ReleaseState, Role, Status, transition_tables};
pub use lineage::Lineage;
pub use people::{Grant, People};
pub use protection::Protection;
pub use provenance::provenance;
pub use registry::Registry;
pub use release::{Missing, ReleaseRecord, RollbackTarget, StartRelease};
pub use seal::SignatureRecord;
pub use standing::Standing;

#[cfg(test)]
mod tests;
