//! `understudy memory`: lessons from traces, from learning to forgetting.

mod apply;
mod erase;
mod mcp;
mod propose;
mod release;
mod remember;
mod show;

pub(crate) use self::{
    erase::{ErasedMemory, erase},
    remember::Remembering,
};

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use serde_json::json;
use understudy_dataset::SuiteFingerprints;
use understudy_ident::{Clock as _, SystemClock};
use understudy_inference::Embedder;
use understudy_journal::Query;
use understudy_memory::{
    By, Deployment, DeploymentStore, Distil, Episode, Job, LearnReport, MemoryId, MemoryRoot,
    NoVerifier, Proposed, Releases, TeacherDistiller, Transcript,
};
use understudy_trajectory::Trajectory;

use super::{Exit, complain, suite};
use crate::{
    cli::{LearnArgs, MemoryCommand, MemoryScope, ReviewArgs, SuspendArgs},
    config::Config,
    meaning,
    output::Out,
    wiring::{self, ServedMemory, Stores},
};

/// That the rules of releases say no is an answer, not a failure of the command.
pub(crate) fn run(command: MemoryCommand, config: &Config, out: Out) -> Result<Exit> {
    match dispatch(command, config, out) {
        Err(error) if super::release::is_a_no(&error) => {
            complain(&error);
            Ok(Exit::No)
        }
        outcome => outcome,
    }
}

fn dispatch(command: MemoryCommand, config: &Config, out: Out) -> Result<Exit> {
    match command {
        MemoryCommand::Learn(args) => learn(&args, config, out),
        MemoryCommand::Propose(args) => propose::propose(&args, config, out),
        MemoryCommand::Review(args) => review(&args, config, out),
        MemoryCommand::Release(args) => release::release(&args, config, out),
        MemoryCommand::Rollback(args) => release::roll_back(&args, config, out),
        MemoryCommand::List(args) => show::list(&args, config, out),
        MemoryCommand::Explain(args) => apply::explain(&args, config, out),
        MemoryCommand::Heal(args) => apply::heal(&args, config, out),
        MemoryCommand::Mcp(args) => mcp::run(&args, config),
        MemoryCommand::Suspend(args) => suspend(&args, config, out),
        MemoryCommand::Forget(args) => release::forget(&args, config, out),
    }
}

/// What every command works on.
#[derive(Debug)]
struct Opened {
    /// The sentence model's directory, where there is one.
    sentences: Option<PathBuf>,
    deployment: Deployment,
    root: MemoryRoot,
    store: DeploymentStore,
    releases: Releases,
}

impl Opened {
    fn open(scope: &MemoryScope, config: &Config) -> Result<Self> {
        Self::at(scope.file.as_deref(), &config.data.memory(), meaning::directory(config)?)
    }

    fn at(file: Option<&Path>, directory: &Path, sentences: Option<PathBuf>) -> Result<Self> {
        let mut deployment = read(&find(file)?)?;
        let root = MemoryRoot::open(directory, deployment.settings.clone())?;
        let store = root.deployment(&deployment.tenant)?;
        let releases = root.releases(&deployment.tenant);
        deployment.catalogue.approved_terms.extend(store.approved_terms()?);
        Ok(Self { sentences, deployment, root, store, releases })
    }

    /// What new lessons and releases are compared with.
    fn embedder(&self) -> Result<Arc<dyn Embedder>> {
        meaning::at(self.sentences.as_deref())
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
pub(crate) fn remembering(config: &Config) -> Result<Option<ServedMemory>> {
    let Some(path) = lookup()? else { return Ok(None) };
    let (deployment, embedder) = (read(&path)?, meaning::embedder(config)?);
    Ok(Some(ServedMemory { deployment, embedder }))
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
    let (mut episodes, mut repeats) = (Vec::new(), 0);
    let suites: Vec<SuiteFingerprints> =
        suite::all(&config.data)?.iter().map(SuiteFingerprints::of).collect();
    let query = Query { task, ..Query::default() };
    for trajectory in stores.journal.scan(&query)? {
        let trajectory = trajectory?;
        // A lesson learnt from a case would be judged by what it was learnt from.
        if repeats_a_case(&trajectory, &suites) {
            repeats += 1;
            continue;
        }
        let transcript = Transcript::of_trajectory(&trajectory);
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
    let report = report.without("it repeats a case of a suite", repeats);
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

fn repeats_a_case(trajectory: &Trajectory, suites: &[SuiteFingerprints]) -> bool {
    let mut prompts = trajectory.steps.iter().map(|judged| &judged.step.prompt);
    prompts.any(|prompt| suites.iter().any(|suite| suite.find(prompt).is_some()))
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

fn suspend(args: &SuspendArgs, config: &Config, out: Out) -> Result<Exit> {
    let opened = Opened::open(&args.scope, config)?;
    let id = opened.lesson(&args.lesson)?;
    opened.store.suspend(&id, &by(&args.scope, &args.reason)?)?;
    show::one(&opened, &id, out)?;
    Ok(Exit::Ok)
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
