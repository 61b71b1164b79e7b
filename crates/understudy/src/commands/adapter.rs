//! `understudy adapter`: registered versions.

use anyhow::Result;
use serde_json::json;
use understudy_ident::TaskName;
use understudy_registry::Registry;

use super::Exit;
use crate::{cli::AdapterCommand, config::Config, output::Out};

pub(crate) fn run(command: AdapterCommand, config: &Config, out: Out) -> Result<Exit> {
    let registry = Registry::open(&config.data.registry(), &config.data.adapters())?;
    match command {
        AdapterCommand::List { task } => {
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
                    out.say(format!(
                        "{:<22} {:<11} {} {} {}: {}",
                        record.version.to_string(),
                        adapter.status.as_str(),
                        record.generation.short(),
                        if serves { "stable" } else { "      " },
                        record.owner,
                        record.reason
                    ));
                    all.push(adapter);
                }
            }
            out.value(&all)?;
        }
        AdapterCommand::Show { version } => {
            let adapter = registry.get(&version.parse()?)?;
            let reports = registry.reports(&adapter.record.version)?;
            let value = json!({"adapter": adapter, "reports": reports});
            out.either(serde_json::to_string_pretty(&value)?, &value)?;
        }
        AdapterCommand::Verify { version } => {
            let directory = registry.verify(&version.parse()?)?;
            let text = format!("{version} is intact in {}", directory.display());
            out.either(text, &json!({"version": version, "directory": directory}))?;
        }
    }
    Ok(Exit::Ok)
}
