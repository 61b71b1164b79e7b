//! `understudy environment`: what can be practised in, and how an expert would do it.

use anyhow::{Result, bail};
use serde_json::json;
use understudy_environment::{PriceDesk, Split, named};
use understudy_message::Role;

use super::Exit;
use crate::{cli::EnvironmentCommand, output::Out};

pub(crate) fn run(command: EnvironmentCommand, out: Out) -> Result<Exit> {
    match command {
        EnvironmentCommand::List => list(out),
        EnvironmentCommand::Demonstrate { name, count, seed } => demonstrate(&name, count, seed),
    }
}

fn list(out: Out) -> Result<Exit> {
    let environment = named(PriceDesk::NAME)?;
    let tools: Vec<String> = environment
        .tools()
        .iter()
        .filter_map(|tool| tool["function"]["name"].as_str().map(str::to_owned))
        .collect();
    let text = format!("{}  tools: {}", environment.name(), tools.join(", "));
    out.either(&text, &json!([{"name": environment.name(), "tools": tools}]))?;
    Ok(Exit::Ok)
}

/// One row for every reply of an expert, in TRL's conversational form, so that the rows can be
/// imported and imitated like any other. Only tasks of the train split are shown.
fn demonstrate(name: &str, count: usize, seed: u64) -> Result<Exit> {
    if count == 0 {
        bail!("could not demonstrate 0 tasks; ask for at least one with --count");
    }
    let environment = named(name)?;
    for task in environment.tasks(Split::Train, seed, count) {
        let mut prompt = task.prompt.clone();
        for message in environment.demonstration(&task)? {
            if message.role == Role::Assistant {
                Out::row(&json!({"prompt": prompt, "completion": [message]}).to_string());
            }
            prompt.push(message);
        }
    }
    Ok(Exit::Ok)
}
