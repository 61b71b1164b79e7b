//! `understudy release`: to production or back. A running server follows within a tick.

mod simulate;

use anyhow::{Context, Result, bail};
use serde_json::json;
use understudy_ident::{AdapterVersion, SystemClock, TaskName};
use understudy_registry::{Change, Override, Registry, ReleaseRecord};

use super::{Exit, train};
use crate::{
    cli::{ReleaseActArgs, ReleaseCommand, ReleaseStartArgs},
    config::Config,
    output::Out,
    wiring::Stores,
};

pub(crate) fn run(command: ReleaseCommand, config: &Config, out: Out) -> Result<Exit> {
    match command {
        ReleaseCommand::Start(args) => start(&args, config, out),
        ReleaseCommand::Status { task } => status(&task, config, out),
        ReleaseCommand::Promote(args) => act(&args, config, out, |registry, release, change| {
            Ok(registry.promote(&release.id, release.revision, change)?)
        }),
        ReleaseCommand::Pause(args) => act(&args, config, out, |registry, release, change| {
            Ok(registry.pause(&release.id, change)?)
        }),
        ReleaseCommand::Rollback(args) => roll_back(&args, config, out),
        ReleaseCommand::History { task } => history(&task, config, out),
        ReleaseCommand::Simulate(args) => simulate::simulate(&args, out),
        ReleaseCommand::Plan(args) => simulate::plan(&args, out),
    }
}

fn registry(config: &Config) -> Result<Registry> {
    Ok(Registry::open(&config.data.registry(), &config.data.adapters())?)
}

fn start(args: &ReleaseStartArgs, config: &Config, out: Out) -> Result<Exit> {
    let recipe = train::recipe(&args.recipe)?;
    let version: AdapterVersion = args.version.parse()?;
    if version.task != recipe.task {
        bail!("{version} is not a version of the recipe's task `{}`", recipe.task);
    }
    let stores = Stores::open(&config.data)?;
    let stages = train::stages(config, &stores, &recipe, out, true)?;
    let forced =
        args.force.then(|| Override { owner: args.owner.clone(), reason: args.reason.clone() });
    let release = stages.release(&recipe, &version, (&args.owner, &args.reason), forced)?;
    say(&release, out)
}

fn status(task: &str, config: &Config, out: Out) -> Result<Exit> {
    let task: TaskName = task.parse()?;
    let registry = registry(config)?;
    let stable = registry.stable(&task)?;
    match &stable {
        Some(stable) => out.say(format!("{task} is served by {stable}")),
        None => out.say(format!("nothing has been promoted for {task}")),
    }
    let open = registry.open_release(&task)?;
    if let Some(release) = &open {
        out.say(line(release));
    }
    out.value(&json!({"task": task, "stable": stable, "open": open}))?;
    Ok(if open.is_some() { Exit::Ok } else { Exit::No })
}

fn act(
    args: &ReleaseActArgs,
    config: &Config,
    out: Out,
    command: impl FnOnce(&Registry, &ReleaseRecord, Change<'_>) -> Result<ReleaseRecord>,
) -> Result<Exit> {
    let registry = registry(config)?;
    let task: TaskName = args.task.parse()?;
    let open = registry.open_release(&task)?;
    let open = open.with_context(|| format!("`{task}` has no open release"))?;
    let change = Change::new(&args.owner, &args.reason, &SystemClock);
    say(&command(&registry, &open, change)?, out)
}

/// The open release, or else the one that promoted what serves now.
fn roll_back(args: &ReleaseActArgs, config: &Config, out: Out) -> Result<Exit> {
    let registry = registry(config)?;
    let task: TaskName = args.task.parse()?;
    let release = registry.release_to_roll_back(&task)?;
    let release = release.with_context(|| format!("`{task}` has nothing to roll back"))?;
    let change = Change::new(&args.owner, &args.reason, &SystemClock);
    say(&registry.roll_back(&release.id, change)?, out)
}

fn history(task: &str, config: &Config, out: Out) -> Result<Exit> {
    let registry = registry(config)?;
    let task: TaskName = task.parse()?;
    let (releases, moves) = (registry.releases(&task)?, registry.history(&task)?);
    for release in &releases {
        out.say(line(release));
    }
    for step in &moves {
        out.say(format!("{} → {}  {}: {}", step.from, step.to, step.owner, step.reason));
    }
    out.value(&json!({"releases": releases, "moves": moves}))?;
    Ok(Exit::Ok)
}

fn say(release: &ReleaseRecord, out: Out) -> Result<Exit> {
    out.either(line(release), release)?;
    Ok(Exit::Ok)
}

fn line(release: &ReleaseRecord) -> String {
    let forced = if release.forced.is_some() { ", forced past the gate" } else { "" };
    format!(
        "{} is {} at step {}{forced} ({}: {})",
        release.candidate,
        release.state.as_str(),
        release.step + 1,
        release.changed_by,
        release.changed_because
    )
}
