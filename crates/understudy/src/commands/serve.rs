//! `understudy serve`: gateway, engine and canary controller on one port.

use anyhow::Result;
use understudy_gateway::AdapterUpdates;
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
    let stores = Stores::open(&config.data)?;
    // Two controllers would each carry out the same verdict.
    let _lock = DataDirLock::acquire(config.data.root().to_owned())?;
    let teacher = wiring::teacher(config)?;
    let first = if teacher.is_some() { "the teacher" } else { "the base model" };
    let tasks = tasks(config)?;
    let student = if args.mock_engine {
        wiring::mock_engine(args.base.as_deref().unwrap_or("mock"), args.mock_step)?
    } else {
        wiring::engine(&model::obtain(config, &name, out)?, &name, args.precision)?
    };
    let name = student.base().to_owned();
    let server = Server::start(Serving {
        stores: &stores,
        student,
        teacher,
        tasks: tasks.clone(),
        listen: args.listen.unwrap_or(config.listen),
        adapter_updates: adapter_updates(args, config),
        on_note: Box::new(move |note| out.say(format!("{}: {}", note.task, note.text))),
        memory: super::memory::deployment()?,
    })?;
    out.say(format!(
        "serving {name} at {}/v1\n  state in {}\n  tasks nothing was released for are answered by {first}",
        server.url(),
        config.data.root().display()
    ));
    server.wait()?;
    Ok(Exit::Ok)
}

/// What an operator must say twice to open wider: that updates are allowed, and from where.
fn adapter_updates(args: &ServeArgs, config: &Config) -> AdapterUpdates {
    match &args.adapter_root[..] {
        _ if !args.allow_adapter_updates => AdapterUpdates::Forbidden,
        [] => AdapterUpdates::Under(vec![config.data.adapters(), ".".into()]),
        roots => AdapterUpdates::Under(roots.to_vec()),
    }
}

/// Tasks that suites are named after are routed before anything is registered for them.
fn tasks(config: &Config) -> Result<Vec<understudy_ident::TaskName>> {
    let mut tasks = config.tasks.clone();
    tasks.extend(super::suite::all(&config.data)?.into_iter().map(|suite| suite.name));
    Ok(tasks)
}
