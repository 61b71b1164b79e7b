//! `understudy memory`: lessons from traces, from learning to forgetting.

mod apply;
mod show;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use serde_json::json;
use understudy_ident::{Clock as _, SystemClock};
use understudy_inference::Embedder;
use understudy_journal::Query;
use understudy_memory::{
    By, Choice, Deployment, DeploymentStore, Distil, Episode, Job, LearnReport, MemoryId,
    MemoryRoot, NoVerifier, Principal, Proposed, Releases, TeacherDistiller, Transcript,
};

use super::Exit;
use crate::{
    cli::{
        ForgetArgs, LearnArgs, MemoryCommand, MemoryReleaseArgs, MemoryRollbackArgs, MemoryScope,
        ReviewArgs,
    },
    config::Config,
    meaning,
    output::Out,
    wiring::{self, Remembering, Stores},
};

pub(crate) fn run(command: MemoryCommand, config: &Config, out: Out) -> Result<Exit> {
    match command {
        MemoryCommand::Learn(args) => learn(&args, config, out),
        MemoryCommand::Review(args) => review(&args, config, out),
        MemoryCommand::Release(args) => release(&args, config, out),
        MemoryCommand::Rollback(args) => roll_back(&args, config, out),
        MemoryCommand::List(args) => show::list(&args, config, out),
        MemoryCommand::Explain(args) => apply::explain(&args, config, out),
        MemoryCommand::Heal(args) => apply::heal(&args, config, out),
        MemoryCommand::Forget(args) => forget(&args, config, out),
    }
}

/// What every command works on.
struct Opened {
    config: Config,
    deployment: Deployment,
    root: MemoryRoot,
    store: DeploymentStore,
    releases: Releases,
}

impl Opened {
    fn open(scope: &MemoryScope, config: &Config) -> Result<Self> {
        let mut deployment = read(&find(scope.file.as_deref())?)?;
        let root = MemoryRoot::open(&config.data.memory(), deployment.settings.clone())?;
        let store = root.deployment(&deployment.tenant)?;
        let releases = root.releases(&deployment.tenant);
        deployment.catalogue.approved_terms.extend(store.approved_terms()?);
        Ok(Self { config: config.clone(), deployment, root, store, releases })
    }

    /// What new lessons and releases are compared with.
    fn embedder(&self) -> Result<Arc<dyn Embedder>> {
        meaning::embedder(&self.config)
    }

    /// A lesson by its id, or by how its id ends or begins.
    fn lesson(&self, text: &str) -> Result<MemoryId> {
        let all = self.store.all(SystemClock.now())?;
        let fits = |id: &str| id == text || id.starts_with(text) || id.ends_with(text);
        let found: Vec<MemoryId> =
            all.into_iter().map(|kept| kept.item.id).filter(|id| fits(id.as_str())).collect();
        match found.as_slice() {
            [one] => Ok(one.clone()),
            [] => bail!("there is no memory {text}; see `understudy memory list`"),
            several => {
                bail!("{} memories are called like {text}; say more of the id", several.len())
            }
        }
    }

    fn lessons(&self, texts: &[String]) -> Result<Vec<MemoryId>> {
        texts.iter().map(|text| self.lesson(text)).collect()
    }
}

/// What a server remembers for, as `memory.toml` says, if there is one, and by what it finds it.
pub(crate) fn remembering(config: &Config) -> Result<Option<Remembering>> {
    let Some(path) = lookup()? else { return Ok(None) };
    let (deployment, embedder) = (read(&path)?, meaning::embedder(config)?);
    Ok(Some(Remembering { deployment, embedder }))
}

fn read(path: &Path) -> Result<Deployment> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("failed to read {}", path.display()))?;
    Deployment::parse(&text).with_context(|| format!("in {}", path.display()))
}

/// `memory.toml`, where the environment says or from the working directory upward.
fn lookup() -> Result<Option<PathBuf>> {
    if let Some(path) = std::env::var_os("UNDERSTUDY_MEMORY_FILE") {
        return Ok(Some(path.into()));
    }
    let here = std::env::current_dir().context("failed to find the working directory")?;
    Ok(here.ancestors().map(|dir| dir.join(Deployment::FILE)).find(|path| path.is_file()))
}

fn find(given: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = given {
        return Ok(path.to_owned());
    }
    lookup()?.context(
        "there is no memory.toml here or above; it names the tenant, its tools and kinds of task: \
         see docs/MEMORY.md",
    )
}

fn by(scope: &MemoryScope, reason: &str) -> Result<By> {
    Ok(By::new(&scope.owner, reason, SystemClock.now())?)
}

fn learn(args: &LearnArgs, config: &Config, out: Out) -> Result<Exit> {
    let opened = Opened::open(&args.scope, config)?;
    let deployment = &opened.deployment;
    let stores = Stores::open(&config.data)?;
    let task = args.task.as_deref().map(str::parse).transpose()?;
    let key = opened.root.key_of(&deployment.tenant);
    let spinner = out.spinner("reading the journal");
    let mut episodes = Vec::new();
    let query = Query { task, ..Query::default() };
    for trajectory in stores.journal.scan(&query)? {
        let transcript = Transcript::of_trajectory(&trajectory?);
        let episode = transcript.map(|told| Episode::read(&told, &deployment.catalogue, &key));
        episodes.extend(episode);
    }
    let teacher = match (args.teacher, wiring::teacher(config)?) {
        (true, Some(backend)) => Some(TeacherDistiller::new(backend)),
        (true, None) => bail!("no teacher is configured; set [teacher] in understudy.toml"),
        (false, _) => None,
    };
    spinner.set_message("learning");
    let embedder = opened.embedder()?;
    let job = Job {
        catalogue: &deployment.catalogue,
        key: &key,
        settings: &deployment.settings,
        embedder: embedder.as_ref(),
        teacher: teacher.as_ref().map(|teacher| teacher as &dyn Distil),
        now: SystemClock.now(),
    };
    let report = job.learn(&episodes, &mut NoVerifier)?;
    let mut proposed = Vec::new();
    if !args.dry_run {
        let by = by(&args.scope, &args.reason)?;
        for item in &report.proposals {
            proposed.push(opened.store.propose(item.clone(), embedder.as_ref(), &by)?);
        }
    }
    spinner.finish_and_clear();
    say_learnt(&report, &proposed, out)?;
    Ok(Exit::Ok)
}

fn say_learnt(report: &LearnReport, proposed: &[Proposed], out: Out) -> Result<()> {
    let eligible = format!("{} of {} episodes may teach", report.eligible, report.episodes);
    out.say(format!("{eligible}, in {} kinds of task", report.patterns));
    for (why, count) in report.skipped.iter().chain(&report.no_learning) {
        out.say(format!("  {count:>6} passed over: {why}"));
    }
    for (why, count) in &report.refused {
        out.say(format!("  {count:>6} lessons refused: {why}"));
    }
    if !report.quarantined.is_empty() {
        out.say(format!("  words to approve or to avoid: {}", report.quarantined.join(", ")));
    }
    for item in &report.proposals {
        out.say(format!("  {} {}", show::short(&item.id), show::sentence(item)));
    }
    out.say(&report.verdict);
    out.value(&json!({"report": report, "lessons": report.proposals, "proposed": proposed}))
}

fn review(args: &ReviewArgs, config: &Config, out: Out) -> Result<Exit> {
    let opened = Opened::open(&args.scope, config)?;
    let reason = || args.reason.as_deref().context("a decision needs --reason, in a few words");
    if let Some(word) = &args.word {
        let by = by(&args.scope, reason()?)?;
        opened.store.approve_term(word, &opened.deployment.catalogue, &by)?;
        out.either(format!("`{word}` may be used from now on"), &json!({"approved": word}))?;
        return Ok(Exit::Ok);
    }
    let Some(lesson) = &args.lesson else { return show::waiting(&opened, out) };
    let id = opened.lesson(lesson)?;
    if args.approve || args.reject || args.restore {
        let by = by(&args.scope, reason()?)?;
        match (args.approve, args.reject) {
            (true, _) => opened.store.validate(&id, &by)?,
            (_, true) => opened.store.retire(&id, &by)?,
            _ => opened.store.restore(&id, &by)?,
        }
    }
    show::one(&opened, &id, out)?;
    Ok(Exit::Ok)
}

fn release(args: &MemoryReleaseArgs, config: &Config, out: Out) -> Result<Exit> {
    let opened = Opened::open(&args.scope, config)?;
    let embedder = opened.embedder()?;
    let choice = Choice { only: opened.lessons(&args.only)?, core: opened.lessons(&args.core)? };
    let by = by(&args.scope, &args.reason)?;
    // What time alone has done comes first, so that nothing stale is released again.
    if !args.dry_run {
        for done in opened.store.sweep(&opened.deployment.catalogue, by.at)? {
            out.say(format!("  {} {}: {}", show::short(&done.item), done.status, done.reason));
        }
    }
    let (next, diff) =
        opened.store.next_release(&opened.releases, embedder.name(), &choice, &by)?;
    let digest = next.digest();
    let changed = diff.changes() > 0 || diff.settings || next.parent.is_none();
    let summary = format!(
        "{}: {} lessons, {} added, {} revised, {} removed; found by {}",
        digest.short(),
        next.items.len(),
        diff.added.len(),
        diff.revised.len(),
        diff.removed.len(),
        meaning::described(embedder.name())
    );
    let value = json!({"release": digest, "diff": diff, "lessons": next.items.len(),
        "embedder": embedder.name(), "served": changed && !args.dry_run});
    if !changed || next.items.is_empty() && next.parent.is_none() {
        out.either("nothing was approved since the last release", &value)?;
        return Ok(Exit::No);
    }
    if !args.dry_run {
        opened.store.release(&opened.releases, embedder.name(), &choice, &by)?;
    }
    out.either(summary, &value)?;
    Ok(Exit::Ok)
}

fn roll_back(args: &MemoryRollbackArgs, config: &Config, out: Out) -> Result<Exit> {
    let opened = Opened::open(&args.scope, config)?;
    let by = by(&args.scope, &args.reason)?;
    let now = match args.to.as_deref() {
        Some("none") => {
            opened.store.withdraw(&by)?;
            None
        }
        Some(text) => {
            let digest = opened.releases.find(text)?;
            opened.store.roll_back(&opened.releases, Some(&digest), &by)?
        }
        None => opened.store.roll_back(&opened.releases, None, &by)?,
    };
    let text = match now {
        Some(digest) => format!("{} serves now", digest.short()),
        None => "no memory is served now".to_owned(),
    };
    out.either(text, &json!({"release": now}))?;
    Ok(Exit::Ok)
}

fn forget(args: &ForgetArgs, config: &Config, out: Out) -> Result<Exit> {
    let opened = Opened::open(&args.scope, config)?;
    if let Some(user) = &args.user {
        let principal = Principal::authenticated(opened.deployment.tenant.clone(), user)?;
        let found = opened.root.forget_user(&principal)?;
        let text = if found { "forgotten" } else { "nothing was kept for this user" };
        out.either(text, &json!({"forgotten": found}))?;
        return Ok(if found { Exit::Ok } else { Exit::No });
    }
    let id = opened.lesson(args.lesson.as_deref().unwrap_or_default())?;
    let by = by(&args.scope, &args.reason)?;
    let replaced = opened.root.forget_item(&opened.deployment.tenant, &id, &by)?;
    let text = match replaced {
        Some(digest) => format!("forgotten; {} serves without it", digest.short()),
        None => "forgotten".to_owned(),
    };
    out.either(text, &json!({"forgotten": id, "release": replaced}))?;
    Ok(Exit::Ok)
}
