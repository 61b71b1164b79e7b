//! `understudy release`: to production or back. A running server follows within a tick.

mod act;
mod rules;
mod simulate;

use anyhow::{Result, bail};
use serde_json::json;
use understudy_ident::{AdapterVersion, Clock as _, SystemClock, TaskName};
use understudy_registry::{Change, Override, Registry, RegistryError, ReleaseRecord};

use super::{Exit, complain, train};
use crate::{
    cli::{ReleaseCommand, ReleaseStartArgs, Said},
    config::Config,
    output::Out,
    wiring::Stores,
};

/// That the rules say no is an answer, not a failure of the command.
pub(crate) fn run(command: ReleaseCommand, config: &Config, out: Out) -> Result<Exit> {
    match dispatch(command, config, out) {
        Err(error) if is_a_no(&error) => {
            complain(&error);
            Ok(Exit::No)
        }
        outcome => outcome,
    }
}

pub(crate) fn is_a_no(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref::<RegistryError>(),
        Some(
            RegistryError::NotAdmitted { .. }
                | RegistryError::NotPermitted { .. }
                | RegistryError::Frozen { .. }
                | RegistryError::OwnVersion { .. }
                | RegistryError::Stale { .. }
        )
    )
}

fn dispatch(command: ReleaseCommand, config: &Config, out: Out) -> Result<Exit> {
    let registry = || Registry::open(&config.data.registry(), &config.data.adapters());
    match command {
        ReleaseCommand::Start(args) => start(&args, config, out),
        ReleaseCommand::Status { task } => status(&task, &registry()?, out),
        ReleaseCommand::Promote(args) => act::promote(&args, &registry()?, out),
        ReleaseCommand::Resume(args) => act::resume(&args, &registry()?, out),
        ReleaseCommand::Pause(args) => act::pause(&args, &registry()?, out),
        ReleaseCommand::Abort(args) => act::abort(&args, &registry()?, out),
        ReleaseCommand::Rollback(args) => act::roll_back(&args, &registry()?, out),
        ReleaseCommand::Undo { act, to } => act::undo(&act, to.as_deref(), &registry()?, out),
        ReleaseCommand::Approve { version, said } => {
            act::approve(&version, &said, &registry()?, out)
        }
        ReleaseCommand::Retire { version, said } => act::retire(&version, &said, &registry()?, out),
        ReleaseCommand::Revoke { version, harm, with_rollback, said } => {
            act::revoke(&version, (harm, with_rollback), &said, &registry()?, out)
        }
        ReleaseCommand::Freeze { task, from, until, said } => {
            let span = (from.as_deref(), until.as_deref());
            rules::freeze(task.as_deref(), span, &said, &registry()?, out)
        }
        ReleaseCommand::Unfreeze { freeze, said } => {
            rules::unfreeze(&freeze, &said, &registry()?, out)
        }
        ReleaseCommand::Freezes => rules::freezes(&registry()?, out),
        ReleaseCommand::Protect(args) => rules::protect(&args, &registry()?, out),
        ReleaseCommand::Grant(args) => rules::grant(&args, true, &registry()?, out),
        ReleaseCommand::Withdraw(args) => rules::grant(&args, false, &registry()?, out),
        ReleaseCommand::People => rules::people(&registry()?, out),
        ReleaseCommand::History { task } => history(&task, &registry()?, out),
        ReleaseCommand::Simulate(args) => simulate::simulate(&args, out),
        ReleaseCommand::Plan(args) => simulate::plan(&args, out),
    }
}

fn start(args: &ReleaseStartArgs, config: &Config, out: Out) -> Result<Exit> {
    let recipe = train::recipe(&args.recipe)?;
    let version: AdapterVersion = args.version.parse()?;
    if version.task != recipe.task {
        bail!("{version} is not a version of the recipe's task `{}`", recipe.task);
    }
    let stores = Stores::open(&config.data)?;
    let open = stores.registry.open_release(&version.task)?;
    if let Some(open) = open.filter(|open| args.supersede && open.candidate != version) {
        let change = Change::new(&args.owner, &args.reason, &SystemClock);
        stores.registry.supersede(&open.id, change)?;
    }
    let stages = train::stages(config, &stores, &recipe, out, true)?;
    let forced =
        args.force.then(|| Override { owner: args.owner.clone(), reason: args.reason.clone() });
    let release = stages.release(&recipe, &version, (&args.owner, &args.reason), forced)?;
    say(&release, out)
}

fn status(task: &str, registry: &Registry, out: Out) -> Result<Exit> {
    let task: TaskName = task.parse()?;
    let channel = registry.channel(&task)?;
    match &channel.stable {
        Some(stable) => out.say(format!("{task} is served by {stable}")),
        None => out.say(format!("nothing has been promoted for {task}")),
    }
    let open = registry.open_release(&task)?;
    if let Some(release) = &open {
        out.say(line(release));
    }
    let mut freezes = registry.freezes(SystemClock.now())?;
    freezes.retain(|freeze| freeze.task.as_ref().is_none_or(|frozen| *frozen == task));
    for freeze in &freezes {
        out.say(format!("frozen: {freeze}"));
    }
    out.value(&json!({
        "task": task,
        "stable": channel.stable,
        "channel": channel,
        "open": open,
        "freezes": freezes,
        "protection": registry.protection(&task)?,
    }))?;
    Ok(if open.is_some() { Exit::Ok } else { Exit::No })
}

fn history(task: &str, registry: &Registry, out: Out) -> Result<Exit> {
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

fn change<'a>(said: &'a Said, forced: Option<&'a Override>) -> Change<'a> {
    let request = said.request.as_deref();
    Change { forced, request, ..Change::new(&said.owner, &said.reason, &SystemClock) }
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
