//! The stages of a run: how far each is, and what it has written.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use understudy_chart::Series;
use understudy_manifest::AdapterManifest;
use understudy_orchestrator::{Fact, Trained};

use super::{curves::Curves, found::Found};
use crate::worker;

const METRICS: &str = ".metrics.jsonl";
const JOB: &str = ".job.json";

/// One stage as it can be shown.
#[derive(Debug)]
pub(super) struct StageView {
    /// From 0.
    pub(super) index: usize,
    pub(super) method: String,
    /// Epochs that the recipe asks for, where it is known.
    pub(super) epochs: Option<u32>,
    pub(super) state: State,
    pub(super) curves: Option<Curves>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub(super) enum State {
    Waiting,
    /// Training now, or interrupted: a file does not know whether its writer lives.
    Unfinished {
        seconds_since_last_step: f64,
    },
    Trained {
        steps: u64,
        seconds: f64,
        #[serde(skip_serializing_if = "Option::is_none")]
        stopped: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        dev_score: Option<f64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        dev_cases: Option<u64>,
    },
    Skipped {
        why: String,
    },
}

/// A metrics file, named `INDEX-METHOD.metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    pub(super) method: String,
    pub(super) path: PathBuf,
}

/// The metrics files in a directory, by stage.
pub(super) fn files(directory: &Path) -> Result<BTreeMap<usize, File>> {
    named(directory, METRICS)
}

/// The jobs of the stages, in their order.
pub(super) fn jobs(directory: &Path) -> Result<Vec<PathBuf>> {
    Ok(named(directory, JOB)?.into_values().map(|file| file.path).collect())
}

fn named(directory: &Path, suffix: &str) -> Result<BTreeMap<usize, File>> {
    let failed = || format!("failed to list {}", directory.display());
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory).with_context(failed)? {
        let path = entry.with_context(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let stem = name.strip_suffix(suffix).and_then(|stem| stem.split_once('-'));
        if let Some((index, method)) = stem
            && let Ok(index) = index.parse()
        {
            files.insert(index, File { method: method.to_owned(), path });
        }
    }
    Ok(files)
}

impl StageView {
    /// Every stage that the recipe asks for or that has left something.
    pub(super) fn all(found: &Found) -> Result<Vec<Self>> {
        let exists = found.directory.is_dir();
        let mut files = if exists { files(&found.directory)? } else { BTreeMap::new() };
        let asked = found.recipe.iter().flat_map(|recipe| &recipe.train).enumerate();
        let mut views = Vec::new();
        for (index, stage) in asked {
            let method = stage.method.as_str();
            let file = files.remove(&index);
            views.push(Self::of(found, (index, method), Some(stage.epochs), file.as_ref())?);
        }
        for (index, file) in files {
            views.push(Self::of(found, (index, &file.method), None, Some(&file))?);
        }
        Ok(views)
    }

    /// `1 sft`, counted from 1 as people do.
    pub(super) fn name(&self) -> String {
        format!("{} {}", self.index + 1, self.method)
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Trained { .. } | State::Skipped { .. })
    }

    /// The series by these names, or those that say most about the method.
    pub(super) fn chosen(&self, names: &[String]) -> Vec<&Series> {
        let Some(curves) = &self.curves else { return Vec::new() };
        match names {
            [] => usual(&self.method).iter().filter_map(|name| curves.get(name)).collect(),
            [all] if all == "all" => curves.series.iter().collect(),
            names => names.iter().filter_map(|name| curves.get(name)).collect(),
        }
    }

    fn of(
        found: &Found,
        (index, method): (usize, &str),
        epochs: Option<u32>,
        file: Option<&File>,
    ) -> Result<Self> {
        let curves = file.map(|file| Curves::read(&file.path)).transpose()?;
        let adapter = found.directory.join(format!("{index}-{method}"));
        let facts = found.logged.as_ref().map_or(&[][..], |logged| &logged.facts);
        let state = match (skipped(facts, index), file) {
            (Some(why), _) => State::Skipped { why },
            _ if adapter.join(AdapterManifest::FILE).is_file() => trained(&adapter, facts, index)?,
            (None, Some(file)) => State::Unfinished { seconds_since_last_step: age(&file.path) },
            (None, None) => State::Waiting,
        };
        if let (State::Trained { .. }, None) = (&state, file) {
            let path = found.directory.join(format!("{index}-{method}{METRICS}"));
            bail!("{} is trained, but its metrics {} are gone", adapter.display(), path.display());
        }
        Ok(Self { index, method: method.to_owned(), epochs, state, curves })
    }
}

fn skipped(facts: &[Fact], index: usize) -> Option<String> {
    facts.iter().find_map(|fact| match fact {
        Fact::StageSkipped { stage, why } if *stage == index => Some(why.clone()),
        _ => None,
    })
}

fn trained(adapter: &Path, facts: &[Fact], index: usize) -> Result<State> {
    let manifest = worker::manifest(adapter)?;
    let lineage = manifest.stages.last();
    let scored: Option<&Trained> = facts.iter().find_map(|fact| match fact {
        Fact::StageTrained(trained) if trained.stage == index => Some(trained),
        _ => None,
    });
    Ok(State::Trained {
        steps: lineage.map_or(0, |stage| stage.steps),
        seconds: lineage.map_or(0.0, |stage| stage.seconds),
        stopped: lineage.and_then(|stage| stage.stopped.clone()),
        dev_score: scored.map(|trained| trained.dev_score),
        dev_cases: scored.map(|trained| trained.dev_cases),
    })
}

/// Seconds since a file was written to; 0 where the file system does not say.
fn age(path: &Path) -> f64 {
    let modified = fs::metadata(path).and_then(|file| file.modified());
    let age = modified.ok().and_then(|modified| modified.elapsed().ok());
    age.unwrap_or(Duration::ZERO).as_secs_f64()
}

/// The metrics that show whether a method works, in the order in which one reads them.
fn usual(method: &str) -> &'static [&'static str] {
    match method {
        "sft" => &["loss", "mean_token_accuracy", "entropy", "grad_norm", "tokens_per_second"],
        "dpo" => &["loss", "rewards/accuracies", "rewards/margins", "logps/chosen"],
        "kto" => &["loss", "rewards/chosen", "rewards/rejected", "logps/chosen"],
        "grpo" => &[
            "reward",
            "reward_std",
            "frac_reward_zero_std",
            "completions/mean_length",
            "kl",
            "entropy",
            "sampling/sampling_logp_difference/mean",
            "clip_ratio/region_mean",
        ],
        _ => &["loss", "grad_norm", "tokens_per_second"],
    }
}
