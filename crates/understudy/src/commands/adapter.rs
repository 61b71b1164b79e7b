//! `understudy adapter`: registered versions.

mod copy;
mod diff;
mod vouch;

use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;
use understudy_ident::TaskName;
use understudy_model::{ModelConfig, merge, read_peft};
use understudy_registry::Registry;

use super::{Exit, model};
use crate::{cli::AdapterCommand, config::Config, output::Out};

pub(crate) fn run(command: AdapterCommand, config: &Config, out: Out) -> Result<Exit> {
    let registry = Registry::open(&config.data.registry(), &config.data.adapters())?;
    match command {
        AdapterCommand::List { task } => {
            list(task.as_deref(), &registry, out)?;
        }
        AdapterCommand::Show { version } => {
            let adapter = registry.get(&version.parse()?)?;
            let version = &adapter.record.version;
            let value = json!({
                "reports": registry.reports(version)?,
                "approvals": registry.approvals(version)?,
                "signatures": registry.signatures(version)?,
                "tainted": registry.tainted(version)?,
                "adapter": adapter,
            });
            out.either(serde_json::to_string_pretty(&value)?, &value)?;
        }
        AdapterCommand::Diff { before, after } => {
            diff::run([&before, &after], &registry, config, out)?;
        }
        AdapterCommand::Import(args) => copy::import(&args, &registry, config, out)?,
        AdapterCommand::Export { version, directory } => {
            copy::export(&version.parse()?, &directory, &registry, out)?;
        }
        AdapterCommand::Verify(args) => return vouch::verify(&args, &registry, out),
        AdapterCommand::Sign(args) => vouch::sign(&args, &registry, out)?,
        AdapterCommand::Provenance { version, key, out: file } => {
            vouch::provenance(&version.parse()?, (key.as_deref(), file.as_deref()), &registry)?;
        }
        AdapterCommand::Taint { dataset, said } => {
            vouch::taint(&dataset.parse()?, &said, &registry, out)?;
        }
        AdapterCommand::Merge { adapter, base, out: directory } => {
            let source = match adapter.parse() {
                Ok(version) => registry.verify(&version)?,
                Err(_) => PathBuf::from(&adapter),
            };
            let name = base.unwrap_or_else(|| config.base.clone());
            let base = model::obtain(config, &name, out)?;
            let shape = ModelConfig::of(&base)?;
            merge(&base, &read_peft(&source, &shape)?.lora, &directory)?;
            let text = format!("{name} with {adapter} is in {}", directory.display());
            out.either(text, &json!({"base": name, "adapter": adapter, "directory": directory}))?;
        }
    }
    Ok(Exit::Ok)
}

fn list(task: Option<&str>, registry: &Registry, out: Out) -> Result<()> {
    let tasks = match task {
        Some(task) => vec![task.parse::<TaskName>()?],
        None => registry.tasks()?,
    };
    let mut all = Vec::new();
    for task in tasks {
        let stable = registry.stable(&task)?;
        for adapter in registry.versions(&task)? {
            let record = &adapter.record;
            let serves = stable.as_ref().and_then(|s| s.adapter()) == Some(&record.version);
            let tainted = registry.tainted(&record.version)?;
            out.say(format!(
                "{:<22} {:<11} {} {} {}: {}{}",
                record.version.to_string(),
                adapter.status.as_str(),
                record.generation.short(),
                if serves { "stable" } else { "      " },
                record.owner,
                record.reason,
                tainted.map_or_else(String::new, |data| format!(" (tainted: {})", data.reason)),
            ));
            all.push(adapter);
        }
    }
    out.value(&all)
}
