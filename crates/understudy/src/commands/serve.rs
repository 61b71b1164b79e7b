//! `understudy serve`: gateway, engine and canary controller on one port.

use anyhow::Result;
use understudy_storage::DataDirLock;

use super::{Exit, model};
use crate::{
    cli::ServeArgs,
    config::Config,
    output::Out,
    wiring::{self, Server, Serving, Stores},
};

pub(crate) fn run(args: &ServeArgs, config: &Config, out: Out) -> Result<Exit> {
    let name = args.base.clone().unwrap_or_else(|| config.base.clone());
    let base = model::obtain(config, &name, out)?;
    let stores = Stores::open(&config.data)?;
    // Two controllers would each carry out the same verdict.
    let _lock = DataDirLock::acquire(config.data.root().to_owned())?;
    let teacher = wiring::teacher(config)?;
    let first = if teacher.is_some() { "the teacher" } else { "the base model" };
    let tasks = tasks(config)?;
    let server = Server::start(Serving {
        stores: &stores,
        student: wiring::engine(&base, &name)?,
        teacher,
        tasks: tasks.clone(),
        listen: args.listen.unwrap_or(config.listen),
        adapter_updates: args.allow_adapter_updates,
        on_note: Box::new(move |note| out.say(format!("{}: {}", note.task, note.text))),
    })?;
    out.say(format!(
        "serving {name} at {}/v1\n  state in {}\n  tasks nothing was released for are answered by {first}",
        server.url(),
        config.data.root().display()
    ));
    server.wait()?;
    Ok(Exit::Ok)
}

/// Tasks that suites are named after are routed before anything is registered for them.
fn tasks(config: &Config) -> Result<Vec<understudy_ident::TaskName>> {
    let mut tasks = config.tasks.clone();
    tasks.extend(super::suite::all(&config.data)?.into_iter().map(|suite| suite.name));
    Ok(tasks)
}
