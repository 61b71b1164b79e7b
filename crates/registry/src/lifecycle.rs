//! What may follow what, who may ask for it, and what must be shown first: pure tables.
//!
//! Three axes are kept apart, because merging them is how a gate gets lost. A version's **status**
//! is what is known about its content. The **channel** is a pointer with a history and has no states
//! of its own. A release's **state** is how far the act of taking a candidate to the channel has
//! come. `docs/RELEASES.md` shows both tables, and a test holds it against them.

mod release;
mod role;
mod table;
mod version;

pub(crate) use release::{Command, next};
pub use release::{PauseReason, ReleaseState};
pub use role::Role;
pub use table::transition_tables;
pub use version::Status;
pub(crate) use version::{VersionEvent, status_after};

/// What must be shown before a transition that brings a candidate nearer to users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// The files hash to what was registered, and the weights' header is sound.
    Files,
    /// A signature by a key the task trusts, where the task asks for one.
    Signature,
    /// No row the version or its parents were trained on has been withdrawn.
    CleanData,
    /// The newest evaluation report passes.
    Report,
    /// That report was made while what serves now was serving.
    CurrentReport,
    /// As many people as the task asks for, none of them the version's owner.
    Approvals,
    /// What a rollback returns to is what serves now, and an engine has loaded it.
    RollbackTarget,
    /// An engine has loaded the candidate with its registered content.
    Loaded,
    /// The revision the decision was made at is the one in force.
    Revision,
}

impl Evidence {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Signature => "signature",
            Self::CleanData => "clean data",
            Self::Report => "report",
            Self::CurrentReport => "current report",
            Self::Approvals => "approvals",
            Self::RollbackTarget => "rollback target",
            Self::Loaded => "loaded",
            Self::Revision => "revision",
        }
    }

    /// Whether somebody may take the place of this evidence and answer for it. Judgement can be
    /// overridden; what the bytes are, where they come from and that there is a way back cannot.
    pub fn yields_to_override(self) -> bool {
        matches!(self, Self::Report | Self::CurrentReport | Self::Approvals)
    }
}

/// One row of a table: from any of `from` (none: what does not exist yet) to `to`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Transition<S: 'static> {
    pub(crate) name: &'static str,
    pub(crate) from: &'static [S],
    pub(crate) to: S,
    pub(crate) who: &'static [Role],
    pub(crate) needs: &'static [Evidence],
    /// Whether a freeze forbids it: true of whatever exposes more users to a candidate.
    pub(crate) freezes: bool,
}

#[cfg(test)]
mod tests;
