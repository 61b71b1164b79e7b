//! `understudy train`: a recipe's stages, without registering or releasing what comes of them.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use anyhow::{Context, Result, bail};
use serde_json::json;
use understudy_dataset::FrozenDataset;
use understudy_manifest::{Recipe, Split};
use understudy_model::{BaseModel, device};
use understudy_orchestrator::Trained;
use understudy_trainer::{Plan, TrainOptions, TrainRequest, plan};

use super::{Exit, model};
use crate::{
    cli::TrainArgs,
    config::Config,
    output::Out,
    ports::Stages,
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
        return dry_run(&recipe, &dataset, &stages.base, out);
    }
    let name = format!("{}-{}", recipe.digest().short(), dataset.version().digest.short());
    let root = args.out.clone().unwrap_or_else(|| config.data.run(&name));
    let mut trained: Vec<Trained> = Vec::new();
    for (stage, settings) in recipe.train.iter().enumerate() {
        if let Some(why) = worker::nothing_for(settings.method, &dataset) {
            out.say(format!("skipped: {why}"));
            continue;
        }
        let from = trained.last().map(|before| PathBuf::from(&before.directory));
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
    let base = if needs_base { model::obtain(config, &recipe.base, out)? } else { PathBuf::new() };
    let config = config.clone();
    Ok(Stages {
        stores,
        base,
        out,
        student: OnceLock::new(),
        make_teacher: Box::new(move || wiring::teacher(&config)),
    })
}

/// What every stage would cost. Later stages are reckoned from a fresh adapter of equal size.
pub(crate) fn dry_run(
    recipe: &Recipe,
    dataset: &FrozenDataset,
    base: &Path,
    out: Out,
) -> Result<Exit> {
    let base = BaseModel::load(base, &device("cpu")?)?;
    let (sft, pairs) = (dataset.sft(Split::Train)?, dataset.pairs(Split::Train)?);
    let mut plans: Vec<serde_json::Value> = Vec::new();
    for stage in &recipe.train {
        if let Some(why) = worker::nothing_for(stage.method, dataset) {
            out.say(format!("{}: skipped, {why}", stage.method.as_str()));
            continue;
        }
        let options = TrainOptions { micro_batch_tokens: 512, ..TrainOptions::default() };
        let request = TrainRequest {
            base: &base,
            stage,
            lora: &recipe.lora,
            start: None,
            sft: &sft,
            pairs: &pairs,
            seed: recipe.seed,
            options,
        };
        let plan = plan(&request)?;
        out.say(plan_line(&plan));
        plans.push(json!({
            "method": plan.method.as_str(), "examples": plan.examples, "steps": plan.steps,
            "tokens_per_epoch": plan.tokens_per_epoch, "flops": plan.flops,
            "memory_bytes": plan.memory_bytes,
        }));
    }
    out.value(&json!({"dataset": dataset.version(), "stages": plans}))?;
    Ok(Exit::Ok)
}

fn plan_line(plan: &Plan) -> String {
    format!(
        "{}: {} examples, {} tokens an epoch (longest row {}), {} steps, {:.1} TFLOP, {:.2} GB at the peak",
        plan.method.as_str(),
        plan.examples,
        plan.tokens_per_epoch,
        plan.longest_row,
        plan.steps,
        plan.flops / 1e12,
        plan.memory_bytes as f64 / 1e9
    )
}
