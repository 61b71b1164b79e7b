//! Releasing lessons, to a canary or to everybody, and taking them back: decided in the registry, as
//! for adapters, and carried out in the memory's store.

use std::{fs, path::Path, sync::Arc};

use anyhow::{Context, Result};
use serde_json::json;
use understudy_canary::{Lessons, Rules, fresh_salt};
use understudy_ident::{AdapterVersion, Digest, SystemClock, TaskName};
use understudy_inference::Embedder as _;
use understudy_manifest::EvalReport;
use understudy_memory::{Choice, MemoryId, MemoryRelease, Principal, ReleaseDiff};
use understudy_registry::{
    Change, Harm, InUse, Override, Registry, RegistryError, ReleaseRecord, RollbackTarget,
    StartRelease, Status, Target,
};
use understudy_trajectory::RewardPolicy;

use super::{EMBEDDER, Opened, by, show};
use crate::{
    cli::{ForgetArgs, MemoryReleaseArgs, MemoryRollbackArgs},
    commands::Exit,
    config::Config,
    output::Out,
};

/// A memory with what decides about its releases.
struct Desk {
    opened: Opened,
    registry: Registry,
    lessons: Lessons,
    channel: TaskName,
}

impl Desk {
    /// Opens both, and carries out what was decided since anybody looked.
    fn open(opened: Opened, config: &Config) -> Result<Self> {
        let registry = Registry::open(&config.data.registry(), &config.data.adapters())?;
        let embedder = Arc::new(EMBEDDER);
        let lessons = Lessons::open(&opened.root, &opened.deployment, embedder, Arc::default())?;
        let channel = opened.deployment.channel();
        let desk = Self { opened, registry, lessons, channel };
        desk.carry_out()?;
        Ok(desk)
    }

    fn carry_out(&self) -> Result<()> {
        self.lessons.follow(&self.registry, &SystemClock)?;
        Ok(())
    }

    fn register(&self, release: &MemoryRelease, change: Change<'_>) -> Result<AdapterVersion> {
        let manifest = release.registered(&self.opened.deployment.tenant);
        let registered = self.registry.register_memory(&self.channel, &manifest, change)?;
        Ok(registered.record.version)
    }

    /// What served before its releases were versions becomes one, so that there is a way back to it.
    fn adopt(&self, owner: &str) -> Result<()> {
        let serving = self.opened.store.releases()?.into_iter().next().flatten();
        let Some(digest) = serving else { return Ok(()) };
        if self.registry.channel(&self.channel)?.generation > 0 {
            return Ok(());
        }
        let reason = "it served before memory releases were versions";
        let change = Change::new(owner, reason, &SystemClock);
        let version = self.register(&self.opened.releases.read(&digest)?, change)?;
        self.at_once(&version, change)
    }

    fn start(
        &self,
        version: &AdapterVersion,
        forced: Option<Override>,
        change: Change<'_>,
    ) -> Result<ReleaseRecord> {
        let policy = Rules::of(&self.opened.deployment.release, RewardPolicy::DefaultV1)?;
        let start = StartRelease {
            candidate: version.clone(),
            rollback: self.rollback_target()?,
            policy: policy.to_value(),
            salt: fresh_salt().to_string(),
            forced,
        };
        Ok(self.registry.start_release(start, change)?)
    }

    fn rollback_target(&self) -> Result<RollbackTarget> {
        let target = self.registry.stable(&self.channel)?.unwrap_or(Target::Base);
        let Target::Adapter(version) = &target else {
            let verified_by = "without lessons there is nothing to load".to_owned();
            return Ok(RollbackTarget { target, loaded_generation: None, verified_by });
        };
        let generation = self.registry.get(version)?.record.generation;
        let loaded = self.lessons.load(version, generation)?;
        let verified_by = format!("the lessons of {version} were read and made ready");
        Ok(RollbackTarget { target, loaded_generation: Some(loaded), verified_by })
    }

    /// To every session in one go; without a passing report somebody answers for that.
    fn at_once(&self, version: &AdapterVersion, change: Change<'_>) -> Result<()> {
        let passed = self.passed(version)?;
        let forced = (!passed).then(|| Override {
            owner: change.owner.to_owned(),
            reason: format!("released at once, without a canary: {}", change.reason),
        });
        let release = self.start(version, forced, change)?;
        let loaded = self.lessons.load(version, release.generation)?;
        let release = self.registry.staged(&release.id, &loaded, change)?;
        self.registry.promote(&release.id, release.revision, change)?;
        self.carry_out()
    }

    fn passed(&self, version: &AdapterVersion) -> Result<bool> {
        let status = self.registry.get(version)?.status;
        Ok(matches!(status, Status::Gated | Status::Approved))
    }

    fn serving(&self) -> Result<Option<Digest>> {
        Ok(self.opened.store.releases()?.into_iter().next().flatten())
    }
}

pub(super) fn release(args: &MemoryReleaseArgs, config: &Config, out: Out) -> Result<Exit> {
    let desk = Desk::open(Opened::open(&args.scope, config)?, config)?;
    let opened = &desk.opened;
    let choice = Choice { only: opened.lessons(&args.only)?, core: opened.lessons(&args.core)? };
    let by = by(&args.scope, &args.reason)?;
    // What time alone has done comes first, so that nothing stale is released again.
    if !args.dry_run {
        for done in opened.store.sweep(&opened.deployment.catalogue, by.at)? {
            out.say(format!("  {} {}: {}", show::short(&done.item), done.status, done.reason));
        }
    }
    let (next, diff) =
        opened.store.next_release(&opened.releases, EMBEDDER.name(), &choice, &by)?;
    let changed = diff.changes() > 0 || diff.settings || next.parent.is_none();
    if !changed || next.items.is_empty() && next.parent.is_none() {
        let value = told(&next, &diff, None, false);
        out.either("nothing was approved since the last release", &value)?;
        return Ok(Exit::No);
    }
    if args.dry_run {
        out.either(summary(&next, &diff), &told(&next, &diff, None, false))?;
        return Ok(Exit::Ok);
    }
    let change = Change::new(&args.scope.owner, &args.reason, &SystemClock);
    opened.releases.cut(&next, by.at)?;
    desk.adopt(&args.scope.owner)?;
    let version = desk.register(&next, change)?;
    if let Some(path) = &args.report {
        desk.registry.attach_report(&version, &report(path)?, change)?;
    }
    if args.canary {
        let (owner, reason) = (args.scope.owner.clone(), args.reason.clone());
        let forced = args.force.then_some(Override { owner, reason });
        let started = desk.start(&version, forced, change)?;
        let text = format!(
            "{}\n{version} is {} ({}); `understudy release status {}` says how it does",
            summary(&next, &diff),
            started.state.as_str(),
            started.id,
            desk.channel
        );
        let mut value = told(&next, &diff, Some(&version), false);
        value["trial"] = json!(started);
        out.either(text, &value)?;
        return Ok(Exit::Ok);
    }
    desk.at_once(&version, change)?;
    let text = format!("{}\n{version} serves", summary(&next, &diff));
    out.either(text, &told(&next, &diff, Some(&version), true))?;
    Ok(Exit::Ok)
}

fn summary(next: &MemoryRelease, diff: &ReleaseDiff) -> String {
    format!(
        "{}: {} lessons, {} added, {} revised, {} removed",
        next.digest().short(),
        next.items.len(),
        diff.added.len(),
        diff.revised.len(),
        diff.removed.len()
    )
}

fn told(
    next: &MemoryRelease,
    diff: &ReleaseDiff,
    version: Option<&AdapterVersion>,
    served: bool,
) -> serde_json::Value {
    let (digest, lessons) = (next.digest(), next.items.len());
    json!({"release": digest, "diff": diff, "lessons": lessons, "served": served, "version": version})
}

fn report(path: &Path) -> Result<EvalReport> {
    let failed = || format!("failed to read the report {}", path.display());
    let text = fs::read_to_string(path).with_context(failed)?;
    serde_json::from_str(&text).with_context(failed)
}

pub(super) fn roll_back(args: &MemoryRollbackArgs, config: &Config, out: Out) -> Result<Exit> {
    let desk = Desk::open(Opened::open(&args.scope, config)?, config)?;
    let change = Change::new(&args.scope.owner, &args.reason, &SystemClock);
    if desk.registry.releases(&desk.channel)?.is_empty() && desk.serving()?.is_none() {
        return Err(understudy_memory::MemoryError::NothingBefore.into());
    }
    desk.adopt(&args.scope.owner)?;
    match args.to.as_deref() {
        None => {
            let release = desk.registry.release_to_roll_back(&desk.channel)?;
            let release = release.ok_or(understudy_memory::MemoryError::NothingBefore)?;
            desk.registry.roll_back(&release.id, change)?;
        }
        Some("none") => {
            end_trial(&desk, change)?;
            if desk.registry.stable(&desk.channel)? != Some(Target::Base) {
                desk.registry.undo(&desk.channel, Some(&Target::Base), change)?;
            }
        }
        Some(text) => return_to(&desk, text, change)?,
    }
    desk.carry_out()?;
    let now = desk.serving()?;
    let text = match now {
        Some(digest) => format!("{} serves now", digest.short()),
        None => "no memory is served now".to_owned(),
    };
    out.either(text, &json!({"release": now}))?;
    Ok(Exit::Ok)
}

/// Back to a release that served once, or on to one that never did.
fn return_to(desk: &Desk, text: &str, change: Change<'_>) -> Result<()> {
    let digest = desk.opened.releases.find(text)?;
    let release = desk.opened.releases.read(&digest)?;
    let version = desk.register(&release, change)?;
    let target = Target::Adapter(version.clone());
    end_trial(desk, change)?;
    let served = desk.registry.history(&desk.channel)?.iter().any(|made| made.to == target);
    match desk.registry.stable(&desk.channel)? {
        Some(stable) if stable == target => Ok(()),
        Some(Target::Adapter(_)) if served => {
            desk.registry.undo(&desk.channel, Some(&target), change)?;
            Ok(())
        }
        _ => desk.at_once(&version, change),
    }
}

fn end_trial(desk: &Desk, change: Change<'_>) -> Result<()> {
    if let Some(open) = desk.registry.open_release(&desk.channel)? {
        desk.registry.abort(&open.id, change)?;
    }
    Ok(())
}

pub(super) fn forget(args: &ForgetArgs, config: &Config, out: Out) -> Result<Exit> {
    let opened = Opened::open(&args.scope, config)?;
    if let Some(user) = &args.user {
        let principal = Principal::authenticated(opened.deployment.tenant.clone(), user)?;
        let found = opened.root.forget_user(&principal)?;
        let text = if found { "forgotten" } else { "nothing was kept for this user" };
        out.either(text, &json!({"forgotten": found}))?;
        return Ok(if found { Exit::Ok } else { Exit::No });
    }
    let id = opened.lesson(args.lesson.as_deref().unwrap_or_default())?;
    let desk = Desk::open(opened, config)?;
    let replaced = forget_lesson(&desk, &id, args)?;
    let text = match replaced {
        Some(digest) => format!("forgotten; {} serves without it", digest.short()),
        None => "forgotten".to_owned(),
    };
    out.either(text, &json!({"forgotten": id, "release": replaced}))?;
    Ok(Exit::Ok)
}

/// A release without it takes over first, so that what is deleted then serves nobody and is no way
/// back; versions that held it are revoked, and never come again.
fn forget_lesson(desk: &Desk, id: &MemoryId, args: &ForgetArgs) -> Result<Option<Digest>> {
    let change = Change::new(&args.scope.owner, &args.reason, &SystemClock);
    let by = by(&args.scope, &args.reason)?;
    let tenant = &desk.opened.deployment.tenant;
    let held = |version: &AdapterVersion| -> Result<bool, RegistryError> {
        let record = desk.registry.get(version)?.record;
        Ok(record.lineage.memory().is_some_and(|memory| memory.lessons.contains_key(id.as_str())))
    };
    let smaller = desk.opened.root.recut_without(tenant, id, &by)?;
    if let Some(smaller) = smaller {
        desk.adopt(&args.scope.owner)?;
        end_trial(desk, change)?;
        let version = desk.register(&desk.opened.releases.read(&smaller)?, change)?;
        desk.at_once(&version, change)?;
    }
    for adapter in desk.registry.versions(&desk.channel)? {
        let version = adapter.record.version;
        if adapter.status != Status::Revoked && held(&version)? {
            desk.registry.revoke(&version, Harm::PersonalData, InUse::RollBack, change)?;
        }
    }
    desk.carry_out()?;
    desk.opened.root.forget_item(tenant, id, &by)?;
    Ok(smaller)
}
