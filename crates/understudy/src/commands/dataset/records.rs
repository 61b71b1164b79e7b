//! `understudy dataset records`: what the journal holds, as `understudy import` reads it.

use anyhow::Result;
use serde_json::json;
use understudy_journal::Query;

use crate::{cli::RecordsArgs, commands::Exit, config::Config, output::Out, wiring::Stores};

/// One JSON object a line, whatever was asked for: a step, then each outcome that is linked to it.
pub(super) fn run(args: &RecordsArgs, config: &Config) -> Result<Exit> {
    let stores = Stores::open(&config.data)?;
    let task = args.task.as_deref().map(str::parse).transpose()?;
    let mut any = false;
    for trajectory in stores.journal.scan(&Query { task, ..Query::default() })? {
        for judged in trajectory?.steps {
            any = true;
            Out::row(&json!({"step": judged.step}).to_string());
            for outcome in judged.outcomes {
                Out::row(&json!({"outcome": outcome}).to_string());
            }
        }
    }
    Ok(if any { Exit::Ok } else { Exit::No })
}
