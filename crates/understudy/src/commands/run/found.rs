//! What a person means by a run: an id of the run log, a directory that was trained into, or the
//! latest of them.

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use understudy_ident::SystemClock;
use understudy_manifest::Recipe;
use understudy_orchestrator::{Fact, Run, RunStore};

use super::stage;
use crate::paths::DataDir;

/// More names than this are no help.
const MOST_NAMES: usize = 8;

/// A run as it lies on disk.
#[derive(Debug)]
pub(super) struct Found {
    /// The run's id, or the directory.
    pub(super) name: String,
    pub(super) directory: PathBuf,
    /// Of the run log, or of a stage's job; nobody else knows.
    pub(super) recipe: Option<Recipe>,
    /// What the run log knows beyond the directory.
    pub(super) logged: Option<Logged>,
}

#[derive(Debug)]
pub(super) struct Logged {
    pub(super) facts: Vec<Fact>,
    pub(super) ending: Option<String>,
}

/// Finds a run without changing anything: not even a data directory is created.
pub(super) fn find(name: &str, data: &DataDir) -> Result<Found> {
    let store = store(data)?;
    let runs = store.as_ref().map(RunStore::list).transpose()?.unwrap_or_default();
    let directories = directories(&data.run(""))?;
    let latest = match name {
        "latest" => latest(&runs, &directories),
        _ => Some(name.to_owned()),
    };
    let Some(name) = latest else {
        bail!(
            "nothing has been trained in {} yet; `understudy run RECIPE` does, and a directory of \
             `understudy train --out DIR` is shown by its path",
            data.root().display()
        );
    };
    if let (Some(store), Some(run)) = (&store, runs.iter().find(|run| run.id.as_str() == name)) {
        let facts = store.facts(&run.id)?;
        return Ok(Found {
            directory: data.run(&name),
            name,
            recipe: Some(run.recipe.clone()),
            logged: Some(Logged { facts, ending: run.ending.clone() }),
        });
    }
    let inside = data.run(&name);
    let directory = if inside.is_dir() { inside } else { PathBuf::from(&name) };
    if !directory.is_dir() {
        bail!("there is no run or directory `{name}`; {}", known(&runs, &directories));
    }
    let recipe = recipe_of(&directory)?;
    if recipe.is_none() && stage::files(&directory)?.is_empty() {
        bail!(
            "{} holds no training: there is no file such as 0-sft.metrics.jsonl in it",
            directory.display()
        );
    }
    Ok(Found { name, directory, recipe, logged: None })
}

fn store(data: &DataDir) -> Result<Option<RunStore>> {
    let path = data.runs_log();
    if !path.is_file() {
        return Ok(None);
    }
    let attempt = || format!("failed to open the run log {}", path.display());
    RunStore::open(&path, Box::new(SystemClock)).map(Some).with_context(attempt)
}

/// Everything in the directory of runs, with the time of its newest metrics, newest first.
fn directories(root: &Path) -> Result<Vec<(SystemTime, String)>> {
    if !root.is_dir() {
        return Ok(Vec::new());
    }
    let failed = || format!("failed to list the runs in {}", root.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(root).with_context(failed)? {
        let entry = entry.with_context(failed)?;
        if !entry.path().is_dir() {
            continue;
        }
        let files = stage::files(&entry.path())?;
        let written = |path: &PathBuf| fs::metadata(path).and_then(|file| file.modified()).ok();
        if let Some(newest) = files.values().filter_map(|file| written(&file.path)).max() {
            found.push((newest, entry.file_name().to_string_lossy().into_owned()));
        }
    }
    found.sort_by(|a, b| b.cmp(a));
    Ok(found)
}

/// What trained last; of runs that have not trained yet, the one that began last.
fn latest(runs: &[Run], directories: &[(SystemTime, String)]) -> Option<String> {
    let trained = directories.first().map(|(_, name)| name.clone());
    trained.or_else(|| runs.first().map(|run| run.id.to_string()))
}

fn known(runs: &[Run], directories: &[(SystemTime, String)]) -> String {
    let mut names: Vec<&str> = runs.iter().map(|run| run.id.as_str()).collect();
    let others = directories.iter().map(|(_, name)| name.as_str());
    names.extend(others.filter(|name| !runs.iter().any(|run| run.id.as_str() == *name)));
    let more = match names.len().saturating_sub(MOST_NAMES) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    match names.get(..MOST_NAMES).unwrap_or(&names) {
        [] => "nothing has been trained here yet".to_owned(),
        shown => format!("known are {}{more}", shown.join(", ")),
    }
}

/// The recipe that the first stage's job was given; metrics that were copied here have none.
fn recipe_of(directory: &Path) -> Result<Option<Recipe>> {
    #[derive(Deserialize)]
    struct Job {
        recipe: Recipe,
    }
    for job in stage::jobs(directory)? {
        let text = fs::read_to_string(&job)
            .with_context(|| format!("failed to read the job {}", job.display()))?;
        match serde_json::from_str::<Job>(&text) {
            Ok(job) => return Ok(Some(job.recipe)),
            Err(why) => tracing::warn!(job = %job.display(), %why, "the job is of another version"),
        }
    }
    Ok(None)
}
