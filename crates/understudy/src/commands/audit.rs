//! `understudy audit`: who changed what, when and why, and that nobody changed that.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use understudy_registry::{AuditEntry, AuditHead, Registry, RegistryError, verify_export};
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
    let noted = noted(args, registry)?;
    let (checked, found) = match &args.file {
        Some(file) => ("the exported chain is whole", verify_export(&read(file)?, noted.as_ref())),
        None => (
            "the audit chain is whole and agrees with the registry",
            registry.verify_audit(noted.as_ref()),
        ),
    };
    match found {
        Ok(head) => {
            let seen = if noted.is_some() { ", and contains the checkpoint" } else { "" };
            out.either(format!("{checked}{seen}: {} entries", head.entries), &head)?;
            Ok(Exit::Ok)
        }
        Err(error @ RegistryError::Tampered(_)) => {
            complain(&error.into());
            Ok(Exit::No)
        }
        Err(error) => Err(error.into()),
    }
}

fn noted(args: &AuditVerifyArgs, registry: &Registry) -> Result<Option<AuditHead>> {
    let Some(file) = &args.checkpoint else { return Ok(None) };
    let key = match &args.public_key {
        Some(path) => CheckpointPublicKey::from_pem(&read(path)?)?,
        None => registry.checkpoint_key().context(NO_KEY)?.public(),
    };
    Ok(Some(AuditHead::from_checkpoint(&read(file)?, &key)?))
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
