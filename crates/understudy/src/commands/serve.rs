//! `understudy serve`: gateway, engine and canary controller on one port.

use std::sync::Arc;

use anyhow::{Context, Result};
use understudy_gateway::AdapterUpdates;
use understudy_inference::Student;
use understudy_manifest::Recipe;
use understudy_storage::DataDirLock;

use super::{Exit, model};
use crate::{
    attend::{self, Attending},
    cli::{Role, ServeArgs},
    config::Config,
    follow::Control,
    output::Out,
    ports::MakeTeacher,
    wiring::{self, Server, Serving, Stores},
};

pub(crate) fn run(args: &ServeArgs, config: &Config, out: Out) -> Result<Exit> {
    let name = args.base.clone().unwrap_or_else(|| config.base.clone());
    let stores = Stores::open(&config.data)?;
    let control = control(args)?;
    // Two controllers would each carry out the same verdict; a replica has none, and may share the
    // directory of the server it follows.
    let _lock = match control {
        None => Some(DataDirLock::acquire(config.data.root().to_owned())?),
        Some(_) => None,
    };
    let paths = if args.loops.is_empty() { &config.loops } else { &args.loops };
    let paths = if control.is_none() { &paths[..] } else { &[] };
    let teacher = wiring::teacher(config)?;
    let first = if teacher.is_some() { "the teacher" } else { "the base model" };
    let tasks = tasks(config)?;
    let student = if args.mock_engine {
        wiring::mock_engine(args.base.as_deref().unwrap_or("mock"), args.mock_step)?
    } else {
        wiring::engine(&model::obtain(config, &name, out)?, &name, args.precision)?
    };
    let name = student.base().to_owned();
    let recipes = attend::recipes(paths, config, &name)?;
    let is_replica = control.is_some();
    let server = Server::start(Serving {
        stores: &stores,
        student: Arc::clone(&student),
        teacher,
        tasks: [tasks, recipes.iter().map(|recipe| recipe.task.clone()).collect()].concat(),
        listen: args.listen.unwrap_or(config.listen),
        adapter_updates: adapter_updates(args, config),
        on_note: Box::new(move |note| out.say(format!("{}: {}", note.task, note.text))),
        control,
    })?;
    let routed = if is_replica {
        "tasks are routed as the server it follows says".to_owned()
    } else {
        format!("tasks nothing was released for are answered by {first}")
    };
    out.say(format!(
        "serving {name} at {}/v1\n  state in {}\n  {routed}",
        server.url(),
        config.data.root().display()
    ));
    if !recipes.is_empty() {
        start_loops(recipes, student, &server, config, out)?;
    }
    server.wait()?;
    Ok(Exit::Ok)
}

fn start_loops(
    recipes: Vec<Recipe>,
    student: Arc<dyn Student>,
    server: &Server,
    config: &Config,
    out: Out,
) -> Result<()> {
    for recipe in &recipes {
        out.say(format!(
            "the loop of {} runs by itself; `understudy loop status` says what it waits for",
            recipe.task
        ));
    }
    let base = model::obtain(config, student.base(), out)?;
    let settings = config.clone();
    let make_teacher = Arc::new(move || {
        let settings = settings.clone();
        Box::new(move || wiring::teacher(&settings)) as MakeTeacher
    });
    let board = server.board();
    Attending { config: config.clone(), recipes, student, board, out, base, make_teacher }.start()
}

fn control(args: &ServeArgs) -> Result<Option<Control>> {
    let (Some(Role::Replica), Some(url)) = (args.role, &args.control) else { return Ok(None) };
    let key = match &args.control_key_env {
        None => None,
        Some(variable) => Some(std::env::var(variable).with_context(|| {
            format!("the key for {url} should be in the environment variable {variable}")
        })?),
    };
    let url = url.trim_end_matches('/').to_owned();
    Ok(Some(Control { url, node: args.node.clone(), key }))
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
