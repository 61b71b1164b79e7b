//! One training stage in a process of its own: a trainer that runs out of memory takes nothing
//! else with it. The parent writes a job file, the child prints one JSON message a line.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    ops::ControlFlow,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use understudy_dataset::FrozenDataset;
use understudy_engine::Engine;
use understudy_evaluation::{RunOptions, Subject, score};
use understudy_ident::{Digest, RunId};
use understudy_inference::Backend;
use understudy_manifest::{
    AdapterManifest, Case, DatasetLineage, Method, Recipe, Scorer, SftExample, Split, Suite, Tier,
};
use understudy_message::Message;
use understudy_model::{BaseModel, device, read_peft};
use understudy_orchestrator::Trained;
use understudy_storage::atomic;
use understudy_trainer::{Progress, Provenance, TrainOptions, TrainRequest, publish, train_stage};

use crate::{commands::Exit, output::Out};

/// Dev cases beyond this many cost more time than they add certainty to the choice of a stage.
const DEV_CASES: usize = 48;

/// What a kill may cost at most; writing one takes a fraction of a second.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(15);

/// Everything a stage needs to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) base: PathBuf,
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
}

/// What the child says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
enum Said {
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
        .stdout(Stdio::piped())
        .spawn()
        .context("failed to start the training process")?;
    let method = job.recipe.train[job.stage].method.as_str();
    let bar = out.bar(0, method);
    let stdout = child.stdout.take().ok_or_else(|| anyhow!("the child has no output"))?;
    let mut last = None;
    for line in BufReader::new(stdout).lines() {
        let line = line.context("failed to read the training process")?;
        match serde_json::from_str(&line) {
            Ok(Said::Progress { done, total, loss, reward, advice, tokens_per_second, left_s }) => {
                if let Some(advice) = advice {
                    out.warn(&bar, advice);
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
    let result = work(&job);
    let (message, exit) = match result {
        Ok(trained) => (Said::Trained { trained, peak_memory_bytes: peak_memory() }, Exit::Ok),
        Err(error) => (Said::Failed { why: format!("{error:#}") }, Exit::BadInput),
    };
    // A parent that has died cannot be told; the work is on disk either way.
    say(&message).ok();
    Ok(exit)
}

fn work(job: &Job) -> Result<Trained> {
    let begun = Instant::now();
    let dataset = FrozenDataset::open(&job.dataset)?;
    let base = BaseModel::load(&job.base, &device("cpu")?)?;
    let last_loss = if job.out.join(AdapterManifest::FILE).is_file() {
        // Trained before the process was killed; only the dev score is missing.
        manifest(&job.out)?.stages.last().map_or(f64::NAN, |stage| stage.last_loss)
    } else {
        train(job, &dataset, &base)?
    };
    let dev = dataset.sft(Split::Dev)?;
    let (dev_score, dev_cases) = score_dev(job, base, &dev)?;
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

fn train(job: &Job, dataset: &FrozenDataset, base: &BaseModel) -> Result<f64> {
    let recipe = &job.recipe;
    let start =
        job.from.as_deref().map(|from| read_peft(from, base.decoder.config())).transpose()?;
    let (sft, pairs) = (dataset.sft(Split::Train)?, dataset.pairs(Split::Train)?);
    let request = TrainRequest {
        base,
        stage: &recipe.train[job.stage],
        lora: &recipe.lora,
        start: start.as_ref().map(|adapter| &adapter.lora),
        sft: &sft,
        pairs: &pairs,
        seed: recipe.seed,
        options: TrainOptions {
            micro_batch_tokens: 512,
            checkpoint: Some(&job.checkpoint),
            checkpoint_every: CHECKPOINT_EVERY,
            metrics: Some(&job.metrics),
            ..TrainOptions::default()
        },
    };
    let trained = train_stage(&request, &mut |progress: &Progress| {
        let message = Said::Progress {
            done: progress.done,
            total: progress.total,
            loss: progress.loss,
            reward: progress.reward,
            advice: progress.advice.clone(),
            tokens_per_second: progress.tokens_per_second,
            left_s: progress.remaining.as_secs_f64(),
        };
        // Nobody listens any more: the parent died, and whoever restarts will resume.
        if say(&message).is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    let mut stages = match &job.from {
        Some(from) => manifest(from)?.stages,
        None => Vec::new(),
    };
    let last_loss = trained.lineage.last_loss;
    stages.push(trained.lineage);
    let counts = dataset.manifest();
    let provenance = Provenance {
        task: recipe.task.to_string(),
        base: recipe.base.clone(),
        recipe_digest: recipe.digest(),
        dataset: DatasetLineage {
            version: dataset.version().clone(),
            sft_rows: counts.rows("sft.train.jsonl"),
            pair_rows: counts.rows("pairs.train.jsonl"),
        },
        parent: None::<Digest>,
        code_version: env!("CARGO_PKG_VERSION").to_owned(),
        run: job.run.clone(),
    };
    publish(base, &trained.adapter, stages, provenance, &job.out)?;
    Ok(last_loss)
}

/// Mean score of the new adapter on the dev split, whose replies are the expected answers.
fn score_dev(job: &Job, base: BaseModel, dev: &[SftExample]) -> Result<(f64, u64)> {
    let cases: Vec<Case> = dev
        .iter()
        .take(DEV_CASES)
        .enumerate()
        .map(|(n, example)| Case {
            id: n.to_string(),
            prompt: example.prompt.clone(),
            expected: example.completion.iter().map(Message::text).collect(),
            tags: Vec::new(),
        })
        .collect();
    if cases.is_empty() {
        return Ok((0.0, 0));
    }
    let suite = Suite {
        name: job.recipe.task.clone(),
        tier: Tier::Dev,
        scorers: vec![job.scorer.clone()],
        cases,
    };
    let engine =
        Engine::start(base, job.recipe.base.clone(), understudy_engine::Config::default())?;
    engine.load_adapter("candidate", &job.out)?;
    let subject = Subject { name: "candidate".to_owned(), adapter: Some("candidate".to_owned()) };
    let options = RunOptions { max_new_tokens: job.max_new_tokens, concurrency: 16 };
    let engine: Arc<dyn Backend> = Arc::new(engine);
    let runs =
        understudy_evaluation::run(&*engine, &suite, &[subject], options, &mut |progress| {
            let (done, total) = (progress.done as u64, progress.total as u64);
            say(&Said::Scoring { done, total }).ok();
        })?;
    let scored = suite.cases.iter().zip(&runs[0].results);
    let sum: f64 =
        scored.map(|(case, result)| score(&job.scorer, &case.expected, &result.output).value).sum();
    Ok((sum / suite.cases.len() as f64, suite.cases.len() as u64))
}

pub(crate) fn manifest(directory: &Path) -> Result<AdapterManifest> {
    let path = directory.join(AdapterManifest::FILE);
    let text =
        fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("failed to understand {}", path.display()))
}

/// Whether a stage has anything to learn from in a dataset, in words if not.
pub(crate) fn nothing_for(method: Method, dataset: &FrozenDataset) -> Option<String> {
    let (what, rows) = match method {
        Method::Sft => ("examples", dataset.manifest().rows("sft.train.jsonl")),
        Method::Dpo => ("pairs", dataset.manifest().rows("pairs.train.jsonl")),
    };
    (rows == 0).then(|| format!("{} has no {what} to learn from", method.as_str()))
}

/// Largest resident set of this process so far, in bytes; 0 where the system does not say.
pub(crate) fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

fn say(message: &Said) -> Result<()> {
    let mut line = serde_json::to_string(message)?;
    line.push('\n');
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(line.as_bytes())?;
    stdout.flush()?;
    Ok(())
}
