//! Earlier attempts at the same candidate. Their evidence goes on, because it is valid whenever one stops
//! looking: trying again is no way to roll the dice again.

use understudy_ident::ReleaseId;
use understudy_registry::{AuditEntry, ReleaseRecord};

use crate::watch::read_to;

/// A release of the candidate that ended before this one began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) release: ReleaseId,
    /// The journal's record after which it met users.
    pub(crate) from: u64,
}

/// The attempts whose evidence speaks for this one: of the same content, compared with the same
/// baseline, and never paused because the comparison was not valid.
pub(crate) fn before(release: &ReleaseRecord, audit: &[AuditEntry]) -> Vec<Attempt> {
    let of_this = |entry: &&AuditEntry| entry.subject != release.id.as_str();
    let started = audit
        .iter()
        .take_while(of_this)
        .filter(|entry| matches!(entry.action.as_str(), "release.start" | "release.start_forced"));
    started
        .filter_map(|entry| serde_json::from_value(entry.detail.clone()).ok())
        .filter(|earlier: &ReleaseRecord| {
            earlier.generation == release.generation
                && earlier.candidate == release.candidate
                && earlier.rollback.target == release.rollback.target
        })
        .filter_map(|earlier| attempt(earlier.id, audit))
        .collect()
}

fn attempt(release: ReleaseId, audit: &[AuditEntry]) -> Option<Attempt> {
    let of_it = || audit.iter().filter(|entry| entry.subject == release.as_str());
    let is_void = |entry: &AuditEntry| {
        entry.action == "release.pause" && entry.detail["paused_because"] == "invalid"
    };
    if of_it().any(is_void) {
        return None;
    }
    let from = of_it().find(|entry| entry.action == "release.stage").and_then(read_to)?;
    Some(Attempt { release, from })
}
