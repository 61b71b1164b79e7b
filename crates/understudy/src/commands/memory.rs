//! `understudy memory`: lessons from traces, from learning to forgetting.

mod apply;
mod cases;
mod erase;
mod exchange;
mod explain;
mod learn;
mod mcp;
mod practice;
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
use understudy_ident::{Clock as _, SystemClock};
use understudy_inference::Embedder;
use understudy_memory::{By, Deployment, DeploymentStore, MemoryId, MemoryRoot, Releases};

use super::{Exit, complain};
use crate::{
    cli::{MemoryCommand, MemoryScope, ReviewArgs, SuspendArgs},
    config::Config,
    meaning,
    output::Out,
    wiring::ServedMemory,
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
        MemoryCommand::Learn(args) => learn::learn(&args, config, out),
        MemoryCommand::Replay(args) => learn::replay(&args, config, out),
        MemoryCommand::Propose(args) => propose::propose(&args, config, out),
        MemoryCommand::Review(args) => review(&args, config, out),
        MemoryCommand::Release(args) => release::release(&args, config, out),
        MemoryCommand::Rollback(args) => release::roll_back(&args, config, out),
        MemoryCommand::List(args) => show::list(&args, config, out),
        MemoryCommand::Explain(args) => explain::explain(&args, config, out),
        MemoryCommand::Heal(args) => apply::heal(&args, config, out),
        MemoryCommand::Mcp(args) => mcp::run(&args, config),
        MemoryCommand::Diff(args) => show::diff(&args, config, out),
        MemoryCommand::Export(args) => exchange::export(&args, config, out),
        MemoryCommand::Import(args) => exchange::import(&args, config, out),
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
