//! Why the registry refused; by what the caller can do about it.

use std::{io, path::PathBuf};

use understudy_ident::{AdapterVersion, Digest, ReleaseId, TaskName};
use understudy_signature::SignatureError;
use understudy_storage::StorageError;

use crate::{Freeze, Missing, ReleaseState, Role, Status, Tampering, Target};

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
    #[error(
        "cannot register this for `{task}`: adapters and memory releases never share a name; take \
         another one"
    )]
    OtherKind { task: TaskName },
    #[error(
        "{version} is a memory release, and only adapters have {what}; see `understudy memory list --releases`"
    )]
    NotWeights { version: AdapterVersion, what: &'static str },
    #[error("there is no adapter {version}; see `understudy adapter list`")]
    UnknownVersion { version: AdapterVersion },
    #[error("adapter {version} at {} is damaged: expected content {expected}, found {found}; restore it from a backup", directory.display())]
    Damaged { version: AdapterVersion, directory: PathBuf, expected: Digest, found: Digest },
    #[error(
        "cannot attach the report to {version}: it is about an adapter with content {found}, not {expected}; evaluate this version"
    )]
    OtherReport { version: AdapterVersion, expected: Digest, found: String },
    #[error(
        "cannot attach the report to {version}: `{suite}` is a dev suite, which anybody may tune on; evaluate on a gate or sealed suite"
    )]
    DevReport { version: AdapterVersion, suite: String },
    #[error("cannot {command} {version}: {how}; roll back first, then {command}")]
    InUse { command: &'static str, version: AdapterVersion, how: String },
    #[error("cannot {command} {version}: its status is {status}", status = status.as_str())]
    VersionNotAllowed { version: AdapterVersion, command: &'static str, status: Status },
    #[error("cannot use {}: {why}; export the adapter again", path.display())]
    UnsoundWeights { path: PathBuf, why: String },
    #[error("cannot verify {version}: {why}; sign it with `understudy adapter sign`")]
    SignatureWanted { version: AdapterVersion, why: String },
    #[error("the signature of {version} leaves out {name}; sign the whole directory")]
    Unsigned { version: AdapterVersion, name: &'static str },
    #[error("cannot approve {version}: {owner} registered it; somebody else must approve")]
    OwnVersion { version: AdapterVersion, owner: String },

    #[error("{name} may not {what}: that takes {needs}; see `understudy release people`", needs = roles(needs))]
    NotPermitted { name: String, what: &'static str, needs: Vec<Role> },
    #[error("there must always be a release manager: grant that role to somebody first")]
    NoManagerLeft,
    #[error("`{text}` is no role of a person: use engineer, release-manager, on-call or override")]
    UnknownRole { text: String },
    #[error("an override needs a reason of at least {least} characters: say what happened")]
    ThinOverride { least: usize },
    #[error("the idempotency key `{key}` was used for another command: take a new one")]
    KeyReused { key: String },
    #[error("cannot {command} a release of `{task}`: {freeze}; wait, lift it, or override it")]
    Frozen { command: &'static str, task: TaskName, freeze: Box<Freeze> },
    #[error("cannot freeze: the freeze would end before it begins; give a later end")]
    EmptyFreeze,
    #[error("there is no freeze {id}; see `understudy release freezes`")]
    UnknownFreeze { id: String },

    #[error("cannot release {version}: it was revoked ({reason}); register a new version")]
    Revoked { version: AdapterVersion, reason: String },
    #[error("cannot release {version}: {missing}", missing = listed(missing))]
    NotAdmitted { version: AdapterVersion, missing: Vec<Missing> },
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
    #[error("cannot {command} release {id}: it is {state}{step}; {instead}", state = state.as_str(), step = at_step(*state, *step), instead = possible(instead))]
    NotAllowed {
        id: ReleaseId,
        command: &'static str,
        state: ReleaseState,
        step: u32,
        /// What may be asked of it now.
        instead: Vec<&'static str>,
    },
    #[error(
        "cannot {command} release {id}: it is at revision {found}, and the decision was made at {expected}; look again and decide anew"
    )]
    Stale { id: ReleaseId, command: &'static str, expected: u64, found: u64 },
    #[error(
        "cannot roll back release {id}: {candidate} does not serve any more, {serving} does; roll back the release that promoted that"
    )]
    NotServing { id: ReleaseId, candidate: AdapterVersion, serving: Target },
    #[error("cannot stage release {id}: the engine loaded {found}, but {expected} was registered")]
    OtherContent { id: ReleaseId, expected: Digest, found: String },
    #[error("cannot undo `{task}`: {why}; see `understudy release history {task}`")]
    NothingToUndo { task: TaskName, why: String },

    #[error(
        "the registry was changed by other means than this program: {0}; restore a backup and find out who did"
    )]
    Tampered(Tampering),
    #[error(transparent)]
    Signature(#[from] SignatureError),
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

fn listed(missing: &[Missing]) -> String {
    missing.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn roles(roles: &[Role]) -> String {
    let names: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
    names.join(" or ")
}

fn possible(commands: &[&str]) -> String {
    match commands {
        [] => "its fate is sealed, start another".to_owned(),
        some => format!("what can be done now: {}", some.join(", ")),
    }
}

fn at_step(state: ReleaseState, step: u32) -> String {
    if state.is_open() { format!(" at step {step}") } else { String::new() }
}
