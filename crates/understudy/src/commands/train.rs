//! `understudy train`: a recipe's stages, without registering or releasing what comes of them.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use anyhow::{Context, Result, bail};
use serde_json::json;
use understudy_dataset::FrozenDataset;
use understudy_manifest::{Recipe, Split};
use understudy_model::{BaseModel, device};
use understudy_orchestrator::{
    Trained,
    plan::{best, too_weak},
};
use understudy_trainer::{Plan, TrainOptions, TrainRequest, plan};

use super::{Exit, model};
use crate::{
    cli::TrainArgs,
    config::Config,
    meaning,
    output::Out,
    ports::Stages,
    training::{self, Source},
    wiring::{self, Stores},
    worker::{self, Job},
};

pub(crate) fn run(args: &TrainArgs, config: &Config, out: Out) -> Result<Exit> {
    let recipe = recipe(&args.recipe)?;
    let stores = Stores::open(&config.data)?;
    let stages = stages(config, &stores, &recipe, out, true)?;
    let dataset = match &args.dataset {
        Some(version) => FrozenDataset::find(&config.data.datasets(), &version.parse()?)?,
        None => stages.dataset(&recipe)?,
    };
    out.say(format!("dataset {}", dataset.version()));
    if args.dry_run {
        return dry_run(&recipe, &dataset, &stages, out);
    }
    let name = format!("{}-{}", recipe.digest().short(), dataset.version().digest.short());
    let root = args.out.clone().unwrap_or_else(|| config.data.run(&name));
    let mut trained: Vec<Trained> = Vec::new();
    for (stage, settings) in recipe.train.iter().enumerate() {
        let best = best(&trained);
        let skipped = worker::nothing_for(settings, &dataset).or_else(|| too_weak(settings, best));
        if let Some(why) = skipped {
            out.say(format!("skipped: {why}"));
            continue;
        }
        let from = best.map(|before| PathBuf::from(&before.directory));
        let job = job(&stages, &recipe, stage, &dataset, &root, from)?;
        let done = worker::run(&job, out)?;
        out.say(describe(&done));
        trained.push(done);
    }
    if trained.is_empty() {
        bail!("nothing was trained: {} has nothing to learn from", dataset.version());
    }
    out.value(&json!({"dataset": dataset.version(), "stages": trained}))?;
    Ok(Exit::Ok)
}

pub(crate) fn describe(trained: &Trained) -> String {
    format!(
        "{}: loss {:.3}, dev score {:.3} on {} cases, {:.0} s, in {}",
        trained.method,
        trained.last_loss,
        trained.dev_score,
        trained.dev_cases,
        trained.seconds,
        trained.directory
    )
}

fn job(
    stages: &Stages<'_>,
    recipe: &Recipe,
    stage: usize,
    dataset: &FrozenDataset,
    root: &Path,
    from: Option<PathBuf>,
) -> Result<Job> {
    let name = format!("{stage}-{}", recipe.train[stage].method.as_str());
    Ok(Job {
        base: stages.base.clone(),
        device: stages.device.clone(),
        embedder: stages.embedder.clone(),
        recipe: recipe.clone(),
        stage,
        dataset: dataset.dir().to_owned(),
        from,
        out: root.join(&name),
        checkpoint: root.join(format!("{name}.checkpoint")),
        metrics: root.join(format!("{name}.metrics.jsonl")),
        run: None,
        scorer: stages.primary(recipe)?,
        max_new_tokens: recipe.gate.as_ref().map_or(128, |gate| gate.max_new_tokens),
        nice: 0,
    })
}

/// Reads a recipe file.
pub(crate) fn recipe(path: &Path) -> Result<Recipe> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("failed to read the recipe {}", path.display()))?;
    Ok(Recipe::parse(&path.display().to_string(), &text)?)
}

/// The stages for commands without a server; the base model is fetched only when it is needed.
pub(crate) fn stages<'a>(
    config: &Config,
    stores: &'a Stores,
    recipe: &Recipe,
    out: Out,
    needs_base: bool,
) -> Result<Stages<'a>> {
    let needs_base = needs_base || recipe.data.counts_tokens();
    let base = if needs_base { model::obtain(config, &recipe.base, out)? } else { PathBuf::new() };
    let config = config.clone();
    Ok(Stages {
        stores,
        base,
        device: config.device.clone(),
        embedder: meaning::directory(&config)?,
        out,
        student: OnceLock::new(),
        recogniser: config.recogniser.clone(),
        accounts: config.accounts.clone(),
        policy: config.policy.clone(),
        make_teacher: Box::new(move || wiring::teacher(&config)),
        unattended: None,
    })
}

/// What every stage would cost, and how long that takes at the speed of one measured step. Later
/// stages are reckoned from a fresh adapter of equal size.
pub(crate) fn dry_run(
    recipe: &Recipe,
    dataset: &FrozenDataset,
    stages: &Stages<'_>,
    out: Out,
) -> Result<Exit> {
    let precision = training::precision(recipe.precision);
    let base = Arc::new(BaseModel::load_with(&stages.base, &device(&stages.device)?, precision)?);
    let (sft, pairs) = (dataset.sft(Split::Train)?, dataset.pairs(Split::Train)?);
    let (labels, groups) = (dataset.labels(Split::Train)?, crate::groups::logged(dataset)?);
    let speed = measure(&base)?;
    out.say(format!("this machine trains this base at {:.0} GFLOP/s", speed / 1e9));
    let mut plans: Vec<serde_json::Value> = Vec::new();
    for stage in &recipe.train {
        if let Some(why) = worker::nothing_for(stage, dataset) {
            out.say(format!("{}: skipped, {why}", stage.method.as_str()));
            continue;
        }
        let source = Source::of(stage, &base, dataset, recipe.seed)?;
        let prompts = source.as_ref().map(Source::describe).transpose()?;
        let options = TrainOptions {
            micro_batch_tokens: training::MICRO_BATCH_TOKENS,
            recompute_above: training::recompute_above(stage),
            ..TrainOptions::default()
        };
        let imagined = training::imagined_pairs(stage, &sft);
        let pairs = if stage.mine > 0 { &imagined } else { &pairs };
        let request = TrainRequest {
            base: &base,
            stage,
            lora: &recipe.lora,
            start: None,
            sft: &sft,
            pairs,
            labels: &labels,
            groups: &groups,
            prompts: prompts.as_ref(),
            seed: recipe.seed,
            options,
        };
        let plan = plan(&request)?;
        let seconds = plan.flops / speed;
        out.say(plan_line(&plan, seconds));
        if let Some(short) = short_of_memory(plan.memory_bytes) {
            out.say(format!("  {short}"));
        }
        let warnings = source.as_ref().map(Source::warnings).unwrap_or_default();
        for warning in &warnings {
            out.say(format!("  {warning}"));
        }
        plans.push(json!({
            "method": plan.method.as_str(), "examples": plan.examples, "steps": plan.steps,
            "tokens_per_epoch": plan.tokens_per_epoch, "flops": plan.flops,
            "memory_bytes": plan.memory_bytes, "seconds": seconds, "warnings": warnings,
        }));
    }
    out.value(&json!({"dataset": dataset.version(), "flops_per_second": speed, "stages": plans}))?;
    Ok(Exit::Ok)
}

/// Floating-point operations a second of a training pass over 512 tokens of this base.
fn measure(base: &BaseModel) -> Result<f64> {
    let flops = understudy_trainer::pass_flops(base, MEASURED_TOKENS)?;
    // The first pass warms caches and page tables up.
    understudy_trainer::time_pass(base, MEASURED_TOKENS)?;
    let took = understudy_trainer::time_pass(base, MEASURED_TOKENS)?;
    Ok(flops / took.as_secs_f64().max(1e-9))
}

/// Long enough to be like training, short enough to wait for.
const MEASURED_TOKENS: usize = 512;

/// Says so before memory runs out, where the system tells how much there is.
fn short_of_memory(needed: u64) -> Option<String> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let free = line.split_whitespace().next()?.parse::<u64>().ok()? * 1024;
    (needed > free).then(|| {
        format!(
            "WARNING: {:.2} GB would be needed and {:.2} GB are free; lower batch_size or max_tokens",
            needed as f64 / 1e9,
            free as f64 / 1e9
        )
    })
}

fn plan_line(plan: &Plan, seconds: f64) -> String {
    format!(
        "{}: {} examples, {} tokens an epoch (longest row {}), {} steps, {:.1} TFLOP, about {:.1} min, {:.2} GB at the peak",
        plan.method.as_str(),
        plan.examples,
        plan.tokens_per_epoch,
        plan.longest_row,
        plan.steps,
        plan.flops / 1e12,
        seconds / 60.0,
        plan.memory_bytes as f64 / 1e9
    )
}
