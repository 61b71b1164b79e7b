//! One training stage in a process of its own: a trainer that runs out of memory takes nothing
//! else with it. The parent writes a job file, the child prints one JSON message a line.
//!
//! The child dies with its parent, however that ends: it holds the other end of a pipe, and ends
//! when the pipe does. Two trainers never write one checkpoint.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Instant,
};

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use understudy_dataset::FrozenDataset;
use understudy_ident::RunId;
use understudy_manifest::{AdapterManifest, GroupSource, Objective, Recipe, Scorer, TrainStage};
use understudy_model::{BaseModel, device};
use understudy_orchestrator::Trained;
use understudy_storage::atomic;

use crate::{commands::Exit, output::Out, training};

/// Everything a stage needs to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) base: PathBuf,
    /// What the model runs on.
    pub(crate) device: String,
    /// The directory of the model that compares texts by meaning, if one is here.
    #[serde(default)]
    pub(crate) embedder: Option<PathBuf>,
    pub(crate) recipe: Recipe,
    pub(crate) stage: usize,
    /// A frozen dataset version's directory.
    pub(crate) dataset: PathBuf,
    /// The adapter of the stage before.
    pub(crate) from: Option<PathBuf>,
    pub(crate) out: PathBuf,
    pub(crate) checkpoint: PathBuf,
    pub(crate) metrics: PathBuf,
    pub(crate) run: Option<RunId>,
    /// What the dev split is scored by.
    pub(crate) scorer: Scorer,
    pub(crate) max_new_tokens: u32,
    /// How far the child steps back behind others on the processor.
    #[serde(default)]
    pub(crate) nice: u8,
}

/// What the child says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub(crate) enum Said {
    Progress {
        done: u64,
        total: u64,
        loss: Option<f64>,
        reward: Option<f64>,
        advice: Option<String>,
        tokens_per_second: f64,
        left_s: f64,
    },
    Scoring {
        done: u64,
        total: u64,
    },
    /// Sampling replies to make pairs of.
    Mining {
        done: u64,
        total: u64,
    },
    /// What a person should know, and the run can go on with.
    Warning {
        text: String,
    },
    Trained {
        trained: Trained,
        peak_memory_bytes: u64,
    },
    Failed {
        why: String,
    },
}

/// Runs a job in a child and draws its progress.
pub(crate) fn run(job: &Job, out: Out) -> Result<Trained> {
    let path = job.out.with_extension("job.json");
    atomic::create_dir(path.parent().unwrap_or(Path::new(".")))?;
    atomic::write(&path, &serde_json::to_vec_pretty(job)?)?;
    let program = std::env::current_exe().context("failed to find this program's own file")?;
    let mut child = Command::new(program)
        .arg("train-worker")
        .arg(&path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("failed to start the training process")?;
    // Held open until the child has ended.
    let _pipe = child.stdin.take();
    let method = job.recipe.train[job.stage].method.as_str();
    let bar = out.bar(0, method);
    let stdout = child.stdout.take().ok_or_else(|| anyhow!("the child has no output"))?;
    let mut last = None;
    for line in BufReader::new(stdout).lines() {
        let line = line.context("failed to read the training process")?;
        match serde_json::from_str(&line) {
            Ok(Said::Progress { done, total, loss, reward, advice, tokens_per_second, left_s }) => {
                if let Some(advice) = advice {
                    Out::warn(&bar, advice);
                }
                bar.set_length(total);
                bar.set_position(done);
                let named = |name, value: Option<f64>| {
                    value.map(|value| format!("{name} {value:.3}, ")).unwrap_or_default()
                };
                let (loss, reward) = (named("loss", loss), named("reward", reward));
                bar.set_message(format!(
                    "{reward}{loss}{tokens_per_second:.0} tokens/s, {left_s:.0} s left"
                ));
            }
            Ok(Said::Scoring { done, total }) => {
                bar.set_length(total);
                bar.set_position(done);
                bar.set_message("dev cases");
            }
            Ok(Said::Mining { done, total }) => {
                bar.set_length(total);
                bar.set_position(done);
                bar.set_message("prompts answered, to find wrong replies");
            }
            Ok(Said::Warning { text }) => Out::warn(&bar, text),
            Ok(end) => last = Some(end),
            Err(why) => tracing::warn!(%line, %why, "the training process said something else"),
        }
    }
    bar.finish_and_clear();
    let status = child.wait().context("failed to wait for the training process")?;
    match last {
        Some(Said::Trained { trained, .. }) => Ok(trained),
        Some(Said::Failed { why }) => bail!("{why}"),
        _ => {
            bail!("the training process ended without a result ({status}); run it again to resume")
        }
    }
}

/// The child's side.
pub(crate) fn main(job: &Path) -> Result<Exit> {
    let text = fs::read_to_string(job)
        .with_context(|| format!("failed to read the job {}", job.display()))?;
    let job: Job = serde_json::from_str(&text)
        .with_context(|| format!("failed to understand the job {}", job.display()))?;
    end_with_parent()?;
    step_back(job.nice);
    let result = work(&job);
    let (message, exit) = match result {
        Ok(trained) => (Said::Trained { trained, peak_memory_bytes: peak_memory() }, Exit::Ok),
        Err(error) => (Said::Failed { why: format!("{error:#}") }, Exit::BadInput),
    };
    // A parent that has died cannot be told; the work is on disk either way.
    say(&message).ok();
    Ok(exit)
}

/// Ends this process when its parent does, at once and wherever it is: only the parent holds the other end of standard input.
#[expect(clippy::exit, reason = "nobody is left to be returned to")]
fn end_with_parent() -> Result<()> {
    let wait = || {
        let mut rest = Vec::new();
        // An error means as much as the end.
        std::io::stdin().read_to_end(&mut rest).ok();
        std::process::exit(1);
    };
    let thread = std::thread::Builder::new().name("parent".to_owned()).spawn(wait);
    thread.map(drop).context("failed to watch for the end of the parent process")
}

/// Lets serving go first. A system that does not know how is as fast as before.
fn step_back(nice: u8) {
    if nice > 0
        && let Err(why) = rustix::process::nice(i32::from(nice))
    {
        tracing::warn!(%why, "training could not step back behind serving");
    }
}

fn work(job: &Job) -> Result<Trained> {
    let begun = Instant::now();
    let dataset = FrozenDataset::open(&job.dataset)?;
    let precision = training::precision(job.recipe.precision);
    let base = Arc::new(BaseModel::load_with(&job.base, &device(&job.device)?, precision)?);
    let last_loss = if job.out.join(AdapterManifest::FILE).is_file() {
        // Trained before the process was killed; only the dev score is missing.
        manifest(&job.out)?.stages.last().map_or(f64::NAN, |stage| stage.last_loss)
    } else {
        training::train(job, &dataset, &base)?
    };
    let (dev_score, dev_cases) = training::score_dev(job, base, &dataset)?;
    Ok(Trained {
        stage: job.stage,
        method: job.recipe.train[job.stage].method.as_str().to_owned(),
        directory: job.out.display().to_string(),
        last_loss,
        dev_score,
        dev_cases,
        seconds: begun.elapsed().as_secs_f64(),
    })
}

pub(crate) fn manifest(directory: &Path) -> Result<AdapterManifest> {
    let path = directory.join(AdapterManifest::FILE);
    let text =
        fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("failed to understand {}", path.display()))
}

/// Whether a stage has anything to learn from in a dataset, in words if not.
pub(crate) fn nothing_for(stage: &TrainStage, dataset: &FrozenDataset) -> Option<String> {
    let rows = |name: &str| dataset.manifest().rows(name);
    let (what, rows) = match &stage.objective {
        Objective::Sft { .. } => ("examples", rows("sft.train.jsonl")),
        Objective::Dpo(_) if stage.mine > 0 => ("examples to mine", rows("sft.train.jsonl")),
        Objective::Dpo(_) => ("pairs", rows("pairs.train.jsonl")),
        Objective::Kto(_) => ("labelled replies", rows("labels.train.jsonl")),
        Objective::Grpo(settings) => match settings.source {
            GroupSource::Replay => ("prompts", rows("sft.train.jsonl")),
            GroupSource::Prompts => ("prompts", rows("prompts.train.jsonl")),
            GroupSource::Logged => ("groups", rows("groups.train.jsonl")),
            GroupSource::Environment => return None,
        },
    };
    (rows == 0).then(|| format!("{} has no {what} to learn from", stage.method.as_str()))
}

/// Largest resident set of this process so far, in bytes; 0 where the system does not say.
pub(crate) fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

pub(crate) fn say(message: &Said) -> Result<()> {
    let mut line = serde_json::to_string(message)?;
    line.push('\n');
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(line.as_bytes())?;
    stdout.flush()?;
    Ok(())
}
