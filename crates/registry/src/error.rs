//! Why the registry refused; by what the caller can do about it.

use std::{io, path::PathBuf};

use understudy_ident::{AdapterVersion, Digest, ReleaseId, TaskName};
use understudy_storage::StorageError;

use crate::{ReleaseState, Status, Target};

#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("every change needs {what}: say it in a few words", what = what_is_missing(what))]
    Unsaid { what: &'static str },

    #[error("cannot register {} as an adapter: it has no {missing}; give the directory a trainer or PEFT wrote", directory.display())]
    NotAnAdapter { directory: PathBuf, missing: &'static str },
    #[error("cannot register {}: it is a symbolic link or special file, and a version must hold all of its content; replace it by a copy", path.display())]
    NotPlain { path: PathBuf },
    #[error(
        "cannot register an adapter for `{task}`: its manifest says it was trained for `{manifest}`"
    )]
    OtherTask { task: TaskName, manifest: String },
    #[error("there is no adapter {version}; see `understudy adapter list`")]
    UnknownVersion { version: AdapterVersion },
    #[error("adapter {version} at {} is damaged: expected content {expected}, found {found}; restore it from a backup", directory.display())]
    Damaged { version: AdapterVersion, directory: PathBuf, expected: Digest, found: Digest },
    #[error(
        "cannot attach the report to {version}: it is about an adapter with content {found}, not {expected}; evaluate this version"
    )]
    OtherReport { version: AdapterVersion, expected: Digest, found: String },
    #[error("cannot revoke {version}: {how}; roll back first, then revoke")]
    InUse { version: AdapterVersion, how: String },

    #[error("cannot release {version}: it was revoked ({reason}); register a new version")]
    Revoked { version: AdapterVersion, reason: String },
    #[error("cannot release {version}: its status is {status}; attach a passing report, or override the gate with an owner and a reason", status = status.as_str())]
    NoPassingReport { version: AdapterVersion, status: Status },
    #[error("cannot release {version}: it serves already")]
    AlreadyServing { version: AdapterVersion },
    #[error(
        "cannot release {version}: a rollback must return to {serving}, which serves now, not to {named}; verify that one"
    )]
    OtherRollbackTarget { version: AdapterVersion, serving: String, named: Target },
    #[error(
        "cannot release {version}: the rollback target {target} was loaded as {found}, but its content is {expected}; load it again"
    )]
    RollbackTargetNotLoaded {
        version: AdapterVersion,
        target: Target,
        expected: Digest,
        found: String,
    },
    #[error(
        "cannot release {version}: release {open} of {candidate} is still open; promote, abort or roll it back first"
    )]
    ReleaseOpen { version: AdapterVersion, open: ReleaseId, candidate: AdapterVersion },
    #[error("there is no release {id}; see `understudy release history`")]
    UnknownRelease { id: ReleaseId },
    #[error("cannot {command} release {id}: it is {state}{step}", state = state.as_str(), step = at_step(*state, *step))]
    NotAllowed { id: ReleaseId, command: &'static str, state: ReleaseState, step: u32 },
    #[error(
        "cannot {command} release {id}: it is at revision {found}, and the decision was made at {expected}; look again and decide anew"
    )]
    Stale { id: ReleaseId, command: &'static str, expected: u64, found: u64 },
    #[error(
        "cannot roll back release {id}: {candidate} does not serve any more, {serving} does; roll back the release that promoted that"
    )]
    NotServing { id: ReleaseId, candidate: AdapterVersion, serving: Target },

    #[error(
        "the registry was changed by other means than this program: {what}; restore a backup and find out who did"
    )]
    Tampered { what: String },
    #[error(
        "a record of the registry cannot be read; it was written by another version of this program, or by hand"
    )]
    Unreadable(#[from] serde_json::Error),
    #[error("the registry's database refused a statement, and nothing was changed")]
    Database(#[from] rusqlite::Error),
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// `attempt` completes "failed to …" and is followed by the path.
    #[error("failed to {attempt} {}", path.display())]
    Io { attempt: &'static str, path: PathBuf, source: io::Error },
}

fn what_is_missing(what: &str) -> String {
    let article = if what.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {what}")
}

fn at_step(state: ReleaseState, step: u32) -> String {
    if state.is_open() { format!(" at step {step}") } else { String::new() }
}
