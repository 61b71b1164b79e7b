//! The first axis: what is known about a version.

use serde::{Deserialize, Serialize};

use super::{Evidence, Role, Transition};

/// What the newest evidence says. The content itself never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Registered,
    /// Its files are what was registered, and well formed.
    Verified,
    /// Its newest report passes.
    Gated,
    /// Enough people have approved that report.
    Approved,
    /// Its newest report fails.
    Rejected,
    /// Out of use, without anything against it.
    Retired,
    /// For ever: no release may use it again.
    Revoked,
}

impl Status {
    pub const ALL: [Self; 7] = [
        Self::Registered,
        Self::Verified,
        Self::Gated,
        Self::Approved,
        Self::Rejected,
        Self::Retired,
        Self::Revoked,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Verified => "verified",
            Self::Gated => "gated",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Retired => "retired",
            Self::Revoked => "revoked",
        }
    }
}

/// What can happen to a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VersionEvent {
    Register,
    Verify,
    Pass,
    Fail,
    Approve,
    Retire,
    Revoke,
}

impl VersionEvent {
    pub(crate) const ALL: [Self; 7] = [
        Self::Register,
        Self::Verify,
        Self::Pass,
        Self::Fail,
        Self::Approve,
        Self::Retire,
        Self::Revoke,
    ];

    pub(crate) fn transition(self) -> Transition<Status> {
        use Status::{Approved, Gated, Registered, Rejected, Retired, Revoked, Verified};
        let everyone = &[Role::Engineer, Role::ReleaseManager, Role::Controller];
        let row =
            |name, from, to, who, needs| Transition { name, from, to, who, needs, freezes: false };
        match self {
            Self::Register => row("register", &[], Registered, everyone, &[]),
            Self::Verify => row(
                "verify",
                &[Registered],
                Verified,
                everyone,
                &[Evidence::Files, Evidence::Signature],
            ),
            Self::Pass => row("pass", &[Verified, Gated, Approved, Rejected], Gated, everyone, &[]),
            Self::Fail => {
                row("fail", &[Verified, Gated, Approved, Rejected], Rejected, everyone, &[])
            }
            Self::Approve => row(
                "approve",
                &[Gated],
                Approved,
                &[Role::ReleaseManager],
                &[Evidence::Report, Evidence::Approvals],
            ),
            Self::Retire => row(
                "retire",
                &[Registered, Verified, Gated, Approved, Rejected],
                Retired,
                &[Role::ReleaseManager],
                &[],
            ),
            Self::Revoke => row(
                "revoke",
                &[Registered, Verified, Gated, Approved, Rejected, Retired],
                Revoked,
                &[Role::ReleaseManager, Role::OnCall],
                &[],
            ),
        }
    }
}

/// The status an event leads to, where the table has it.
pub(crate) fn status_after(status: Option<Status>, event: VersionEvent) -> Option<Status> {
    let Transition { from, to, .. } = event.transition();
    let fits = match status {
        None => from.is_empty(),
        Some(status) => from.contains(&status),
    };
    fits.then_some(to)
}
