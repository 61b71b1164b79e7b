//! `understudy audit`: who changed what, when and why, and that nobody changed that.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde_json::json;
use understudy_registry::{
    AuditEntry, AuditHead, Registry, RegistryError, SignedHead, verify_export,
};
use understudy_signature::{CheckpointKey, CheckpointPublicKey};

use super::{Exit, complain};
use crate::{
    cli::{AuditCommand, AuditVerifyArgs},
    config::Config,
    output::Out,
};

pub(crate) fn run(command: AuditCommand, config: &Config, out: Out) -> Result<Exit> {
    let registry = Registry::open(&config.data.registry(), &config.data.adapters())?;
    match command {
        AuditCommand::Show { task } => {
            let task = task.map(|task| task.parse()).transpose()?;
            let entries = registry.audit(task.as_ref())?;
            for entry in &entries {
                out.say(line(entry));
            }
            out.value(&entries)?;
            Ok(Exit::Ok)
        }
        AuditCommand::Verify(args) => verify(&args, &registry, out),
        AuditCommand::Export { since, out: file } => {
            let lines = registry.export_audit(since)?;
            match file {
                Some(file) => write(&file, &(lines.join("\n") + "\n"))?,
                None => lines.iter().for_each(|line| Out::row(line)),
            }
            Ok(Exit::Ok)
        }
        AuditCommand::Checkpoint { key, out: file } => {
            let given = key.map(|path| anyhow::Ok(CheckpointKey::from_pem(&read(&path)?)?));
            let given = given.transpose()?;
            let key = given.as_ref().or(registry.checkpoint_key());
            let key = key.context(NO_KEY)?;
            let note = registry.checkpoint(key)?;
            if let Some(file) = file {
                write(&file, &note)?;
            }
            out.either(note.trim_end(), &note)?;
            Ok(Exit::Ok)
        }
    }
}

const NO_KEY: &str = "there is no key to sign or verify with: make one with \
    `openssl genpkey -algorithm ed25519 -out audit.pem` in the data directory, or name one";

/// That something was changed is an answer, not a failure of the command.
fn verify(args: &AuditVerifyArgs, registry: &Registry, out: Out) -> Result<Exit> {
    let keys = keys(args, registry)?;
    let (checked, found) = match verdict(args, &keys, registry)? {
        (checked, Ok(found)) => (checked, found),
        (_, Err(error @ RegistryError::Tampered(_))) => {
            complain(&error.into());
            return Ok(Exit::No);
        }
        (_, Err(error)) => return Err(error.into()),
    };
    let (head, signed) = found;
    let seen = if args.checkpoint.is_some() { ", and contains the checkpoint" } else { "" };
    let entries = head.entries;
    let mut text = format!("{checked}{seen}: {entries} entries");
    if let Some(last) = signed.last() {
        let (count, SignedHead { entries, key }) = (signed.len(), last);
        write!(text, "; {count} checkpoints, the last one of {entries} entries by key {key}")?;
    } else if keys.is_empty() && args.file.is_none() && !registry.checkpoints()?.is_empty() {
        text.push_str(
            "; whose its checkpoints are nobody can say here: name the key with --public-key",
        );
    }
    let told = json!({"entries": entries, "hash": head.hash, "checkpoints": signed});
    out.either(text, &told)?;
    Ok(Exit::Ok)
}

type Found = Result<(AuditHead, Vec<SignedHead>), RegistryError>;

/// What was looked at, and what was found.
fn verdict(
    args: &AuditVerifyArgs,
    keys: &[CheckpointPublicKey],
    registry: &Registry,
) -> Result<(&'static str, Found)> {
    let noted = noted(args, keys)?;
    Ok(match &args.file {
        Some(file) => {
            let found = verify_export(&read(file)?, noted.as_ref());
            ("the exported chain is whole", found.map(|head| (head, Vec::new())))
        }
        None => (
            "the audit chain is whole and agrees with the registry",
            registry.verify_audit_by(noted.as_ref(), keys),
        ),
    })
}

/// Who may have signed: the keys that were named, or else the one beside the registry.
fn keys(args: &AuditVerifyArgs, registry: &Registry) -> Result<Vec<CheckpointPublicKey>> {
    if args.public_key.is_empty() {
        return Ok(registry.checkpoint_key().map(CheckpointKey::public).into_iter().collect());
    }
    let read = |path: &PathBuf| Ok(CheckpointPublicKey::from_pem(&read(path)?)?);
    args.public_key.iter().map(read).collect()
}

/// What the checkpoint saw that was kept elsewhere.
fn noted(args: &AuditVerifyArgs, keys: &[CheckpointPublicKey]) -> Result<Option<AuditHead>> {
    let Some(file) = &args.checkpoint else { return Ok(None) };
    let note = read(file)?;
    let mut tried = keys.iter().map(|key| AuditHead::from_checkpoint(&note, key));
    let first = tried.next().context(NO_KEY)?;
    Ok(Some(tried.fold(first, Result::or)?))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("failed to write {}", path.display()))
}

/// One entry as a sentence.
pub(crate) fn line(entry: &AuditEntry) -> String {
    let at = entry.at.strftime("%H:%M:%S");
    let (seq, action) = (entry.seq, &entry.action);
    let forced = if entry.forced.is_some() { " (an override)" } else { "" };
    format!(
        "{seq:>3} {at} {action:<21} {:<22} {}: {}{forced}",
        shown(entry),
        entry.actor,
        entry.reason
    )
}

/// A release is known by its candidate; its id says nothing to a person.
fn shown(entry: &AuditEntry) -> String {
    let candidate = entry.detail.get("candidate").and_then(serde_json::Value::as_str);
    candidate.unwrap_or(&entry.subject).to_owned()
}
