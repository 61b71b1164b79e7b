//! Who may do what, when nothing may go out, and what a task asks for.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};
use understudy_ident::{Clock as _, SystemClock, TaskName, Timestamp};
use understudy_registry::{Change, People, Protection, Registry, Role};

use super::change;
use crate::{
    cli::{ReleaseGrantArgs, ReleaseProtectArgs, Said},
    commands::Exit,
    output::Out,
};

pub(super) fn freeze(
    task: Option<&str>,
    (from, until): (Option<&str>, Option<&str>),
    said: &Said,
    registry: &Registry,
    out: Out,
) -> Result<Exit> {
    let task: Option<TaskName> = task.map(str::parse).transpose()?;
    let (from, until) = (from.map(time).transpose()?, until.map(time).transpose()?);
    let freeze = registry.freeze(task.as_ref(), from, until, change(said, None))?;
    out.either(format!("frozen: {freeze}"), &freeze)?;
    Ok(Exit::Ok)
}

pub(super) fn unfreeze(id: &str, said: &Said, registry: &Registry, out: Out) -> Result<Exit> {
    let freeze = registry.lift_freeze(id, change(said, None))?;
    out.either(format!("{id} is lifted"), &freeze)?;
    Ok(Exit::Ok)
}

pub(super) fn freezes(registry: &Registry, out: Out) -> Result<Exit> {
    let freezes = registry.freezes(SystemClock.now())?;
    for freeze in &freezes {
        let task = freeze.task.as_ref().map_or("all tasks", TaskName::as_str);
        out.say(format!("{task} from {}: {freeze}", freeze.from));
    }
    out.value(&freezes)?;
    Ok(Exit::Ok)
}

pub(super) fn protect(args: &ReleaseProtectArgs, registry: &Registry, out: Out) -> Result<Exit> {
    let task: TaskName = args.task.parse()?;
    let rules = match &args.reason {
        None => registry.protection(&task)?,
        Some(reason) => {
            let read = |path: &PathBuf| {
                fs::read_to_string(path)
                    .with_context(|| format!("failed to read {}", path.display()))
            };
            let rules = Protection {
                approvals: args.approvals.unwrap_or(0),
                promote_by_hand: args.promote_by_hand,
                signers: args.signer.iter().map(read).collect::<Result<_>>()?,
            };
            registry.protect(&task, &rules, Change::new(&args.owner, reason, &SystemClock))?
        }
    };
    let Protection { approvals, promote_by_hand, signers } = &rules;
    let who = if *promote_by_hand { "a person" } else { "the controller" };
    let text =
        format!("{task}: {approvals} approvals, {who} promotes, {} trusted keys", signers.len());
    out.either(text, &rules)?;
    Ok(Exit::Ok)
}

pub(super) fn grant(
    args: &ReleaseGrantArgs,
    granted: bool,
    registry: &Registry,
    out: Out,
) -> Result<Exit> {
    let role: Role = args.role.parse()?;
    let people = registry.grant(&args.person, role, granted, change(&args.said, None))?;
    listed(&people, out)
}

pub(super) fn people(registry: &Registry, out: Out) -> Result<Exit> {
    listed(&registry.people()?, out)
}

fn listed(people: &People, out: Out) -> Result<Exit> {
    if people.is_empty() {
        out.say("nobody has a role, so that everybody may do everything");
    }
    for (person, roles) in people {
        let roles: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
        out.say(format!("{person:<20} {}", roles.join(", ")));
    }
    out.value(people)?;
    Ok(Exit::Ok)
}

fn time(text: &str) -> Result<Timestamp> {
    text.parse().with_context(|| format!("{text} is no time: write it as 2027-01-02T08:00:00Z"))
}
