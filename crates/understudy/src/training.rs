//! What the training process does: get a stage's examples or rollouts ready, train, score.

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use understudy_dataset::FrozenDataset;
use understudy_engine::{Config, Engine};
use understudy_environment::Split as Tasks;
use understudy_evaluation::{RunOptions, Subject, mean_score};
use understudy_ident::Digest;
use understudy_inference::{Backend, Student};
use understudy_manifest::{
    self as manifest, AdapterManifest, Case, DatasetLineage, GroupSource, GrpoSettings, Objective,
    PairExample, Recipe, SftExample, Split, Suite, Tier, TrainStage,
};
use understudy_message::Message;
use understudy_model::{BaseModel, Lora, Precision, read_peft};
use understudy_reward::json::texts_equal;
use understudy_rollout::{Episodes, Question, Replay};
use understudy_trainer::{
    Progress, Prompts, Provenance, Rollouts, TrainOptions, TrainRequest, publish, train_on_policy,
    train_stage,
};

use crate::{
    meaning,
    worker::{Job, Said, say},
};

/// Dev cases beyond this many cost more time than they add certainty to the choice of a stage.
const DEV_CASES: usize = 48;

/// Tasks of an environment that a stage is trained on, and that it is measured by.
const TRAIN_TASKS: usize = 512;
const DEV_TASKS: usize = 64;

/// What a kill may cost at most; writing one takes a fraction of a second.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(15);

/// Tokens that run through the model at once: more are no faster and take more memory.
pub(crate) const MICRO_BATCH_TOKENS: usize = 512;

/// From how many tokens on an example is computed twice. A group is one example, and never torn
/// apart.
pub(crate) fn recompute_above(stage: &TrainStage) -> usize {
    match stage.objective {
        _ if stage.gradient_checkpointing => 0,
        Objective::Grpo(_) => 1536,
        _ => MICRO_BATCH_TOKENS,
    }
}

pub(crate) fn precision(written: manifest::Precision) -> Precision {
    match written {
        manifest::Precision::F32 => Precision::F32,
        manifest::Precision::Bf16 => Precision::Bf16,
        manifest::Precision::Q8_0 => Precision::Q8,
        manifest::Precision::Q4_1 => Precision::Q4,
    }
}

/// Where a stage's attempts come from, and what is known about them before the first.
pub(crate) enum Source {
    Replay(Replay),
    Episodes(Episodes),
}

impl Source {
    /// The source of a stage that samples its own attempts; none for every other stage.
    pub(crate) fn of(
        stage: &TrainStage,
        base: &Arc<BaseModel>,
        dataset: &FrozenDataset,
        seed: u64,
    ) -> Result<Option<Self>> {
        let Objective::Grpo(settings) = &stage.objective else { return Ok(None) };
        let base = Arc::clone(base);
        match settings.source {
            GroupSource::Logged => Ok(None),
            GroupSource::Replay | GroupSource::Prompts => {
                let questions = if settings.source == GroupSource::Prompts {
                    Question::of_prompts(
                        &dataset.sft(Split::Train)?,
                        &dataset.prompts(Split::Train)?,
                    )
                } else {
                    dataset.sft(Split::Train)?.iter().map(Question::from).collect()
                };
                let replay = Replay::start(base, questions, settings, stage.max_tokens)?;
                Ok(Some(Self::Replay(replay)))
            }
            GroupSource::Environment => {
                let tasks = (Tasks::Train, seed, TRAIN_TASKS);
                Ok(Some(Self::Episodes(Episodes::start(base, settings, tasks)?)))
            }
        }
    }

    pub(crate) fn describe(&self) -> Result<Prompts> {
        match self {
            Self::Replay(replay) => Ok(replay.describe()),
            Self::Episodes(episodes) => Ok(episodes.describe()?),
        }
    }

    /// What a person should know before the run: a reward that a constant answer earns.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let Self::Replay(replay) = self else { return Vec::new() };
        let found = replay.constant_answers();
        let mut warnings: Vec<String> =
            replay.notes().into_iter().map(|(name, note)| format!("{name}: {note}")).collect();
        if let (Some(_), Some(best)) = (found.flag, found.constants.first()) {
            warnings.push(format!(
                "{}, given to every prompt, earns {:.0} % of what right answers earn: {:?}. A \
                 policy may collapse onto it; weigh that reward less, or ask for min_sft_score",
                best.what,
                100.0 * best.share,
                best.answer.text()
            ));
        }
        warnings
    }

    fn rollouts(&mut self) -> &mut dyn Rollouts {
        match self {
            Self::Replay(replay) => replay,
            Self::Episodes(episodes) => episodes,
        }
    }
}

/// Trains one stage and publishes its adapter; returns the last loss.
pub(crate) fn train(job: &Job, dataset: &FrozenDataset, base: &Arc<BaseModel>) -> Result<f64> {
    let recipe = &job.recipe;
    let stage = &recipe.train[job.stage];
    let start =
        job.from.as_deref().map(|from| read_peft(from, base.decoder.config())).transpose()?;
    let start = start.as_ref().map(|adapter| &adapter.lora);
    let (sft, labels) = (dataset.sft(Split::Train)?, dataset.labels(Split::Train)?);
    let mut pairs = dataset.pairs(Split::Train)?;
    if stage.mine > 0 {
        pairs.extend(mine(stage, recipe, &sft, base, start)?);
    }
    let groups = crate::groups::logged(dataset)?;
    let mut source = Source::of(stage, base, dataset, recipe.seed)?;
    let prompts = source.as_ref().map(Source::describe).transpose()?;
    for warning in source.iter().flat_map(Source::warnings) {
        say(&Said::Warning { text: warning })?;
    }
    let request = TrainRequest {
        base,
        stage,
        lora: &recipe.lora,
        start,
        sft: &sft,
        pairs: &pairs,
        labels: &labels,
        groups: &groups,
        prompts: prompts.as_ref(),
        seed: recipe.seed,
        options: TrainOptions {
            micro_batch_tokens: MICRO_BATCH_TOKENS,
            recompute_above: recompute_above(stage),
            checkpoint: Some(&job.checkpoint),
            checkpoint_every: CHECKPOINT_EVERY,
            metrics: Some(&job.metrics),
        },
    };
    let trained = match &mut source {
        Some(source) => train_on_policy(&request, source.rollouts(), &mut tell),
        None => train_stage(&request, &mut tell),
    }?;
    let mut stages = match &job.from {
        Some(from) => crate::worker::manifest(from)?.stages,
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

fn tell(progress: &Progress) -> ControlFlow<()> {
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
}

/// Pairs from what the policy itself gets wrong: the accepted reply over a sampled one.
fn mine(
    stage: &TrainStage,
    recipe: &Recipe,
    sft: &[SftExample],
    base: &Arc<BaseModel>,
    start: Option<&Lora>,
) -> Result<Vec<PairExample>> {
    let Some(start) = start else {
        bail!("mine = {} samples from the stage before, and there is none", stage.mine)
    };
    let settings = GrpoSettings {
        group_size: stage.mine as usize,
        max_new_tokens: recipe.gate.as_ref().map_or(128, |gate| gate.max_new_tokens),
        ..GrpoSettings::default()
    };
    let single = |example: &&SftExample| example.completion.len() == 1;
    let examples: Vec<&SftExample> = sft.iter().filter(single).collect();
    let questions = examples.iter().map(|example| Question::from(*example)).collect();
    let mut replay = Replay::start(Arc::clone(base), questions, &settings, stage.max_tokens)?;
    if replay.prompts() != examples.len() {
        bail!("some prompts leave no room for a reply of {} tokens", settings.max_new_tokens);
    }
    let mut pairs = Vec::new();
    let every: Vec<usize> = (0..examples.len()).collect();
    for part in every.chunks(32) {
        say(&Said::Mining { done: part[0] as u64, total: every.len() as u64 })?;
        let groups = replay.groups(start, part, recipe.seed)?;
        for (group, index) in groups.into_iter().zip(part) {
            let example = examples[*index];
            let expected = example.completion[0].text();
            let mut wrong: Vec<String> = group
                .attempts
                .into_iter()
                .map(|attempt| attempt.text)
                .filter(|text| text.trim() != expected.trim() && !texts_equal(&expected, text))
                .collect();
            wrong.sort();
            wrong.dedup();
            pairs.extend(wrong.into_iter().map(|text| mined(example, text)));
        }
    }
    Ok(pairs)
}

/// What mining may find at most: every sampled reply is wrong, and as long as another's.
pub(crate) fn imagined_pairs(stage: &TrainStage, sft: &[SftExample]) -> Vec<PairExample> {
    let replies = sft.iter().cycle().skip(1).map(|other| other.completion[0].text());
    let pairs = sft.iter().zip(replies).map(|(example, reply)| mined(example, reply));
    pairs.flat_map(|pair| vec![pair; stage.mine as usize]).collect()
}

fn mined(example: &SftExample, rejected: String) -> PairExample {
    let mut origin = example.origin.clone();
    origin.because.push("mined".to_owned());
    PairExample {
        prompt: example.prompt.clone(),
        chosen: example.completion.clone(),
        rejected: vec![Message::assistant(rejected)],
        tools: example.tools.clone(),
        margin: None,
        origin,
    }
}

/// How good the new adapter is on what it was not trained on: the mean success on held-out tasks
/// when the recipe has an environment, else the mean score on the dev split, whose replies are the
/// expected answers.
pub(crate) fn score_dev(
    job: &Job,
    base: Arc<BaseModel>,
    dataset: &FrozenDataset,
) -> Result<(f64, u64)> {
    match environment(&job.recipe) {
        Some(settings) => score_tasks(job, base, settings),
        None => score_cases(job, base, &dataset.sft(Split::Dev)?),
    }
}

fn environment(recipe: &Recipe) -> Option<&GrpoSettings> {
    recipe.train.iter().find_map(|stage| match &stage.objective {
        Objective::Grpo(settings) if settings.environment.is_some() => Some(&**settings),
        _ => None,
    })
}

fn score_tasks(job: &Job, base: Arc<BaseModel>, settings: &GrpoSettings) -> Result<(f64, u64)> {
    let adapter = read_peft(&job.out, base.decoder.config())?.lora;
    let tasks = (Tasks::HeldOut, job.recipe.seed, DEV_TASKS);
    let mut episodes = Episodes::start(base, settings, tasks)?;
    let rewards = episodes.greedy_rewards(&adapter)?;
    let sum: f64 = rewards.iter().copied().flatten().sum();
    Ok((sum / DEV_TASKS as f64, DEV_TASKS as u64))
}

fn score_cases(job: &Job, base: Arc<BaseModel>, dev: &[SftExample]) -> Result<(f64, u64)> {
    let cases: Vec<Case> = dev
        .iter()
        .take(DEV_CASES)
        .enumerate()
        .map(|(n, example)| Case {
            id: n.to_string(),
            prompt: example.prompt.clone(),
            expected: example.completion.iter().map(Message::text).collect(),
            tools: example.tools.clone(),
            ..Case::default()
        })
        .collect();
    if cases.is_empty() {
        return Ok((0.0, 0));
    }
    let suite = Suite {
        name: job.recipe.task.clone(),
        tier: Tier::Dev,
        scorers: vec![job.scorer.clone()],
        rubrics: Vec::new(),
        cases,
    };
    let engine = Engine::start(base, job.recipe.base.clone(), Config::default())?;
    engine.load_adapter("candidate", &job.out).with_context(|| {
        format!("failed to load {}", job.out.join(AdapterManifest::FILE).display())
    })?;
    let subject = Subject { name: "candidate".to_owned(), adapter: Some("candidate".to_owned()) };
    let options = RunOptions { max_new_tokens: job.max_new_tokens, concurrency: 16 };
    let engine: Arc<dyn Backend> = Arc::new(engine);
    let runs =
        understudy_evaluation::run(&*engine, &suite, &[subject], options, &mut |progress| {
            let (done, total) = (progress.done as u64, progress.total as u64);
            say(&Said::Scoring { done, total }).ok();
        })?;
    let scorers = std::slice::from_ref(&job.scorer);
    let embedder = meaning::wanted(job.embedder.as_deref(), &suite, scorers)?;
    let mean = mean_score(&suite, &job.scorer, &runs[0], embedder.as_deref())?;
    Ok((mean, suite.cases.len() as u64))
}
