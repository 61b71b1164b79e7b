//! `understudy audit`: who changed what, when and why, and that nobody changed that.

use anyhow::Result;
use understudy_registry::{AuditEntry, Registry};

use super::Exit;
use crate::{cli::AuditCommand, config::Config, output::Out};

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
        }
        AuditCommand::Verify => {
            let head = registry.verify_audit(None)?;
            out.either("the audit chain is whole and agrees with the registry", &head)?;
        }
    }
    Ok(Exit::Ok)
}

/// One entry as a sentence.
pub(crate) fn line(entry: &AuditEntry) -> String {
    let at = entry.at.strftime("%H:%M:%S");
    let (seq, action) = (entry.seq, &entry.action);
    format!("{seq:>3} {at} {action:<21} {:<22} {}: {}", shown(entry), entry.actor, entry.reason)
}

/// A release is known by its candidate; its id says nothing to a person.
fn shown(entry: &AuditEntry) -> String {
    let candidate = entry.detail.get("candidate").and_then(serde_json::Value::as_str);
    candidate.unwrap_or(&entry.subject).to_owned()
}
