//! The training loop of one stage.

use std::time::{Duration, Instant};

use understudy_ident::Digest;
use understudy_manifest::{Method, StageLineage};
use understudy_model::{Lora, LoraGrads};

use crate::{
    checkpoint::{self, Checkpoint, Tally, run_digest},
    error::{Result, TrainError},
    gradient::{StepGradient, StepStats},
    guard, memory,
    metrics::{MetricsFile, StepMetrics},
    objective::{Objective, dpo::Preference},
    optimizer::{AdamW, clip_scale, global_norm},
    pace::Pace,
    reference,
    request::{OnProgress, Phase, Progress, TrainRequest, TrainedStage},
    rows::{Example, LeftOut},
    schedule::Schedule,
    timeline::Timeline,
};

/// So many steps in a row without a finite gradient are not bad luck.
const MOST_SKIPPED_IN_A_ROW: u64 = 10;

/// Runs one stage from its first step, or from its checkpoint, to its last.
pub fn train_stage(
    request: &TrainRequest<'_>,
    on_progress: &mut OnProgress<'_>,
) -> Result<TrainedStage> {
    let mut stage = Stage::begin(request, on_progress)?;
    while stage.tally.steps < stage.timeline.steps() {
        let metrics = stage.step()?;
        if let Some(file) = &mut stage.metrics {
            file.append(&metrics)?;
        }
        let goes_on = on_progress(&stage.progress(&metrics)).is_continue();
        if !goes_on && stage.tally.steps < stage.timeline.steps() {
            stage.save()?;
            return Err(TrainError::Interrupted { step: stage.tally.steps });
        }
        if stage.saved.elapsed() >= request.options.checkpoint_every {
            stage.save()?;
        }
    }
    stage.save()?;
    Ok(stage.finish())
}

/// Everything that changes while a stage trains.
struct Stage<'a> {
    request: &'a TrainRequest<'a>,
    examples: Vec<Example>,
    left_out: LeftOut,
    objective: Objective,
    timeline: Timeline,
    schedule: Schedule,
    adapter: Lora,
    grads: LoraGrads,
    optimizer: AdamW,
    tally: Tally,
    run: Digest,
    metrics: Option<MetricsFile>,
    saved: Instant,
    pace: Pace,
}

impl<'a> Stage<'a> {
    fn begin(request: &'a TrainRequest<'a>, on_progress: &mut OnProgress<'_>) -> Result<Self> {
        let examples = request.examples()?;
        let (left_out, examples) = (examples.left_out, examples.kept);
        let settings = request.stage;
        let mut adapter = request.starting_adapter()?;
        let run = run_digest(request, &adapter, &examples);
        let saved = match request.options.checkpoint {
            Some(path) => checkpoint::load(path, run, adapter.values().len())?,
            None => None,
        };
        let state = match saved {
            Some(state) => state,
            None => first_state(request, &adapter, &examples, on_progress)?,
        };
        adapter.values_mut().copy_from_slice(&state.adapter);
        let updates = state.tally.steps - state.tally.skipped_steps;
        let optimizer = AdamW::new(settings.weight_decay, updates, state.first, state.second);
        let objective = match settings.method {
            Method::Sft => Objective::Sft,
            Method::Dpo => Objective::Dpo(Preference {
                beta: settings.beta,
                sft_weight: settings.sft_weight,
                reference: state.reference,
            }),
        };
        let timeline =
            Timeline::new(examples.len(), settings.batch_size, settings.epochs, request.seed);
        let metrics = request.options.metrics;
        Ok(Self {
            schedule: Schedule::new(settings.learning_rate, settings.warmup, timeline.steps()),
            metrics: metrics.map(|path| MetricsFile::open(path, state.tally.steps)).transpose()?,
            grads: adapter.zero_grads(),
            saved: Instant::now(),
            pace: Pace::default(),
            request,
            examples,
            left_out,
            objective,
            timeline,
            adapter,
            optimizer,
            tally: state.tally,
            run,
        })
    }

    /// One optimiser step: gradient, guard, clip, update.
    fn step(&mut self) -> Result<StepMetrics> {
        let begun = Instant::now();
        let members = self.timeline.members(self.tally.steps);
        self.grads.clear();
        let gradient = StepGradient {
            base: self.request.base,
            objective: &self.objective,
            examples: &self.examples,
            micro_batch_tokens: self.request.options.micro_batch_tokens,
        };
        let stats = gradient.accumulate(&members, &self.adapter, &mut self.grads)?;
        if self.tally.steps == 0 {
            guard::check(&self.adapter, &self.grads)?;
        }
        let norm = global_norm(self.grads.values());
        let learning_rate = self.schedule.learning_rate(self.tally.steps);
        if norm.is_finite() && stats.loss.is_finite() {
            let scale = clip_scale(norm, self.request.stage.clip);
            let values = self.adapter.values_mut();
            self.optimizer.update(learning_rate, values, self.grads.values(), scale);
            self.tally.skipped_in_a_row = 0;
            self.tally.first_loss.get_or_insert(stats.loss);
            self.tally.last_loss = Some(stats.loss);
        } else {
            self.skip()?;
        }
        self.count(&stats, begun.elapsed());
        Ok(self.metrics_of(&stats, norm, learning_rate, begun.elapsed()))
    }

    /// What is not finite must never reach the optimiser's moments, where it would stay.
    fn skip(&mut self) -> Result<()> {
        self.tally.skipped_steps += 1;
        self.tally.skipped_in_a_row += 1;
        match self.tally.skipped_in_a_row {
            MOST_SKIPPED_IN_A_ROW => Err(TrainError::Diverged { steps: MOST_SKIPPED_IN_A_ROW }),
            _ => Ok(()),
        }
    }

    fn count(&mut self, stats: &StepStats, took: Duration) {
        self.tally.steps += 1;
        self.tally.tokens += stats.tokens;
        self.tally.seconds += took.as_secs_f64();
        self.pace.note(stats.tokens, took);
    }

    fn metrics_of(&self, stats: &StepStats, norm: f64, rate: f64, took: Duration) -> StepMetrics {
        StepMetrics {
            step: self.tally.steps,
            epoch: self.timeline.epoch(self.tally.steps),
            loss: stats.loss,
            learning_rate: rate,
            grad_norm: norm.is_finite().then_some(norm),
            num_tokens: self.tally.tokens,
            tokens_per_second: stats.tokens as f64 / took.as_secs_f64().max(1e-9),
            step_time: took.as_secs_f64(),
            skipped_steps: self.tally.skipped_steps,
            mean_token_accuracy: stats.token_accuracy,
            entropy: stats.entropy,
            preference: stats.preference,
        }
    }

    fn progress(&self, metrics: &StepMetrics) -> Progress {
        let (done, total) = (self.tally.steps, self.timeline.steps());
        Progress {
            method: self.request.stage.method,
            phase: Phase::Training,
            done,
            total,
            loss: Some(metrics.loss),
            tokens_per_second: self.pace.tokens_per_second(),
            remaining: self.pace.remaining(total - done),
        }
    }

    fn save(&mut self) -> Result<()> {
        if let Some(path) = self.request.options.checkpoint {
            let (first, second) = self.optimizer.moments();
            let checkpoint = Checkpoint {
                tally: self.tally,
                adapter: self.adapter.values().to_vec(),
                first: first.to_vec(),
                second: second.to_vec(),
                reference: match &self.objective {
                    Objective::Sft => Vec::new(),
                    Objective::Dpo(preference) => preference.reference.clone(),
                },
            };
            checkpoint::save(path, self.run, &checkpoint)?;
        }
        self.saved = Instant::now();
        Ok(())
    }

    fn finish(self) -> TrainedStage {
        let lineage = StageLineage {
            settings: self.request.stage.clone(),
            lora: self.request.lora.clone(),
            steps: self.tally.steps,
            examples: self.examples.len() as u64,
            tokens: self.tally.tokens,
            first_loss: self.tally.first_loss.unwrap_or_default(),
            last_loss: self.tally.last_loss.unwrap_or_default(),
            skipped_steps: self.tally.skipped_steps,
            seconds: self.tally.seconds,
            peak_memory_bytes: memory::peak_bytes(),
        };
        TrainedStage { adapter: self.adapter, lineage, left_out: self.left_out }
    }
}

/// Where a stage stands before its first step.
fn first_state(
    request: &TrainRequest<'_>,
    adapter: &Lora,
    examples: &[Example],
    on_progress: &mut OnProgress<'_>,
) -> Result<Checkpoint> {
    let begun = Instant::now();
    let reference = reference::ask(request, adapter, examples, on_progress)?;
    let zeros = vec![0.0; adapter.values().len()];
    Ok(Checkpoint {
        tally: Tally { seconds: begun.elapsed().as_secs_f64(), ..Tally::default() },
        adapter: adapter.values().to_vec(),
        first: zeros.clone(),
        second: zeros,
        reference,
    })
}
