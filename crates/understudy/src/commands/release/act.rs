//! What is done with a release or a version.

use anyhow::{Context, Result};
use understudy_ident::{AdapterVersion, TaskName};
use understudy_registry::{
    Adapter, Harm, InUse, Override, PauseReason, Registry, ReleaseRecord, Target,
};

use super::{change, say};
use crate::{
    cli::{HarmKind, ReleaseActArgs, ReleaseDecideArgs, Said},
    commands::Exit,
    output::Out,
};

pub(super) fn promote(args: &ReleaseDecideArgs, registry: &Registry, out: Out) -> Result<Exit> {
    let (open, forced) = decided(args, registry)?;
    let revision = args.if_revision.unwrap_or(open.revision);
    let change = change(&args.act.said, forced.as_ref());
    say(&registry.promote(&open.id, revision, change)?, out)
}

pub(super) fn resume(args: &ReleaseDecideArgs, registry: &Registry, out: Out) -> Result<Exit> {
    let (open, forced) = decided(args, registry)?;
    let revision = args.if_revision.unwrap_or(open.revision);
    let change = change(&args.act.said, forced.as_ref());
    say(&registry.resume(&open.id, revision, change)?, out)
}

pub(super) fn pause(args: &ReleaseActArgs, registry: &Registry, out: Out) -> Result<Exit> {
    let open = open(args, registry)?;
    say(&registry.pause(&open.id, PauseReason::Manual, change(&args.said, None))?, out)
}

pub(super) fn abort(args: &ReleaseActArgs, registry: &Registry, out: Out) -> Result<Exit> {
    let open = open(args, registry)?;
    say(&registry.abort(&open.id, change(&args.said, None))?, out)
}

/// The open release, or else the one that promoted what serves now.
pub(super) fn roll_back(args: &ReleaseActArgs, registry: &Registry, out: Out) -> Result<Exit> {
    let task: TaskName = args.task.parse()?;
    let release = registry.release_to_roll_back(&task)?;
    let release = release.with_context(|| format!("`{task}` has nothing to roll back"))?;
    say(&registry.roll_back(&release.id, change(&args.said, None))?, out)
}

pub(super) fn undo(
    args: &ReleaseActArgs,
    to: Option<&str>,
    registry: &Registry,
    out: Out,
) -> Result<Exit> {
    let task: TaskName = args.task.parse()?;
    let to: Option<Target> = to.map(str::parse).transpose()?;
    registry.undo(&task, to.as_ref(), change(&args.said, None))?;
    let channel = registry.channel(&task)?;
    let stable = channel.stable.as_ref().map_or_else(|| "nothing".to_owned(), Target::to_string);
    out.either(format!("{task} is served by {stable}"), &channel)?;
    Ok(Exit::Ok)
}

pub(super) fn approve(version: &str, said: &Said, registry: &Registry, out: Out) -> Result<Exit> {
    let version: AdapterVersion = version.parse()?;
    let adapter = registry.approve(&version, change(said, None))?;
    let (have, need) =
        (registry.approvals(&version)?.len(), registry.protection(&version.task)?.approvals);
    let status = adapter.status.as_str();
    let text = format!("{version} is {status}: {have} approved it, and {need} must");
    out.either(text, &adapter)?;
    Ok(Exit::Ok)
}

pub(super) fn retire(version: &str, said: &Said, registry: &Registry, out: Out) -> Result<Exit> {
    say_version(&registry.retire(&version.parse()?, change(said, None))?, out)
}

pub(super) fn revoke(
    version: &str,
    (harm, with_rollback): (HarmKind, bool),
    said: &Said,
    registry: &Registry,
    out: Out,
) -> Result<Exit> {
    let harm = match harm {
        HarmKind::Safety => Harm::Safety,
        HarmKind::Licence => Harm::Licence,
        HarmKind::PersonalData => Harm::PersonalData,
        HarmKind::SupplyChain => Harm::SupplyChain,
    };
    let in_use = if with_rollback { InUse::RollBack } else { InUse::Refuse };
    say_version(&registry.revoke(&version.parse()?, harm, in_use, change(said, None))?, out)
}

fn say_version(adapter: &Adapter, out: Out) -> Result<Exit> {
    let text = format!("{} is {}", adapter.record.version, adapter.status.as_str());
    out.either(text, adapter)?;
    Ok(Exit::Ok)
}

/// The open release, and who answers for going on in a freeze.
fn decided(
    args: &ReleaseDecideArgs,
    registry: &Registry,
) -> Result<(ReleaseRecord, Option<Override>)> {
    let Said { owner, reason, .. } = &args.act.said;
    let forced = args.force.then(|| Override { owner: owner.clone(), reason: reason.clone() });
    Ok((open(&args.act, registry)?, forced))
}

/// The open release; for a command with a key, which may have ended it already, the newest.
fn open(args: &ReleaseActArgs, registry: &Registry) -> Result<ReleaseRecord> {
    let task: TaskName = args.task.parse()?;
    let mut open = registry.open_release(&task)?;
    if open.is_none() && args.said.request.is_some() {
        open = registry.releases(&task)?.pop();
    }
    open.with_context(|| format!("`{task}` has no open release"))
}
