//! `understudy release`: to production or back. A running server follows within a tick.

mod act;
mod drill;
mod rules;
mod servers;
mod simulate;

use anyhow::{Result, bail};
use serde_json::{Value, json};
use understudy_canary::{CanaryError, Examined, Examiner};
use understudy_ident::{AdapterVersion, Clock as _, SystemClock, TaskName};
use understudy_journal::Journal;
use understudy_registry::{Change, Override, Registry, RegistryError, ReleaseRecord};

use super::{Exit, complain, train};
use crate::{
    cli::{ReleaseCommand, ReleaseStartArgs, ReleaseStatusArgs, Said},
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
    let refused = match error.downcast_ref::<CanaryError>() {
        Some(CanaryError::Registry(refused)) => Some(refused),
        _ => error.downcast_ref::<RegistryError>(),
    };
    matches!(
        refused,
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
        ReleaseCommand::Status(args) => status(&args, config, out),
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
        ReleaseCommand::Simulate(args) => simulate::simulate(&args, config, out),
        ReleaseCommand::Drill(args) => drill::drill(&args, config, out),
        ReleaseCommand::Plan(args) => simulate::plan(&args, config, out),
    }
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
    let said = (args.owner.as_str(), args.reason.as_str());
    let release = stages.release(&recipe, &version, said, (forced, args.supersede))?;
    say(&release, out)
}

fn status(args: &ReleaseStatusArgs, config: &Config, out: Out) -> Result<Exit> {
    let task: TaskName = args.task.parse()?;
    let registry = Registry::open(&config.data.registry(), &config.data.adapters())?;
    let standing = registry.standing(&task, SystemClock.now())?;
    match &standing.stable {
        Some(stable) => out.say(format!("{task} is served by {stable}")),
        None => out.say(format!("nothing has been promoted for {task}")),
    }
    let mut evidence = Value::Null;
    if let Some(release) = &standing.open {
        out.say(line(release));
        match examined(&registry, release, config) {
            Ok(Some(found)) => {
                let units = (found.canary.units, found.baseline.units);
                out.say(format!("  {} ({} units against {})", found.judgement, units.0, units.1));
                found.latency_limits.iter().for_each(|limits| out.say(format!("  {limits}")));
                evidence = json!(found);
            }
            Ok(None) => {}
            // Whoever asks in an incident is told the rest all the same.
            Err(why) => {
                out.say(format!("  its evidence cannot be read: {why:#}"));
                evidence = json!({"unreadable": format!("{why:#}")});
            }
        }
    }
    for freeze in &standing.freezes {
        out.say(format!("frozen: {freeze}"));
    }
    let servers = servers::told(args, config)?;
    servers.iter().flat_map(servers::lines).for_each(|line| out.say(line));
    let is_open = standing.open.is_some();
    let mut told = json!(standing);
    (told["evidence"], told["servers"]) = (evidence, json!(servers));
    out.value(&told)?;
    Ok(if is_open { Exit::Ok } else { Exit::No })
}

fn examined(
    registry: &Registry,
    release: &ReleaseRecord,
    config: &Config,
) -> Result<Option<Examined>> {
    let journal = Journal::open(&config.data.journal(), understudy_journal::Config::default())?;
    Ok(Examiner::default().examine(registry, &journal, release)?)
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
