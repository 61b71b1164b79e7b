//! The training loop of one stage.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use understudy_ident::Digest;
use understudy_manifest::{self as manifest, GroupSource, HealthCheck, Reaction, StageLineage};
use understudy_model::{Lora, LoraGrads};

use crate::{
    attempt::Rollouts,
    checkpoint::{self, Checkpoint, Tally, run_digest},
    error::{Result, TrainError},
    gradient::{StepGradient, StepStats},
    guard,
    health::Diagnosis,
    memory,
    metrics::{MetricsFile, StepMetrics},
    optimizer::{AdamW, clip_scale, global_norm},
    pace::Pace,
    reference::Anchor,
    request::{OnProgress, Phase, Progress, TrainRequest, TrainedStage},
    rows::LeftOut,
    schedule::Schedule,
    seed,
    source::Source,
    timeline::Timeline,
};

/// So many steps in a row without a finite gradient are not bad luck.
const MOST_SKIPPED_IN_A_ROW: u64 = 10;

/// Runs one stage from its first step, or from its checkpoint, to its last.
pub fn train_stage(
    request: &TrainRequest<'_>,
    on_progress: &mut OnProgress<'_>,
) -> Result<TrainedStage> {
    run(request, None, on_progress)
}

/// Runs a GRPO stage that samples its own attempts.
pub fn train_on_policy(
    request: &TrainRequest<'_>,
    rollouts: &mut dyn Rollouts,
    on_progress: &mut OnProgress<'_>,
) -> Result<TrainedStage> {
    run(request, Some(rollouts), on_progress)
}

fn run<'a>(
    request: &'a TrainRequest<'_>,
    rollouts: Option<&'a mut dyn Rollouts>,
    on_progress: &mut OnProgress<'_>,
) -> Result<TrainedStage> {
    let mut stage = Stage::begin(request, rollouts, on_progress)?;
    while stage.tally.steps < stage.timeline.steps() && stage.tally.stopped.is_none() {
        let metrics = stage.step()?;
        if let Some(file) = &mut stage.metrics {
            file.append(&metrics)?;
        }
        let goes_on = on_progress(&stage.progress(&metrics)).is_continue();
        // A round of attempts is never torn apart: what is left of it could not be sampled again.
        let at_rest = stage.timeline.is_at_rest(stage.tally.steps);
        if at_rest && !goes_on && stage.tally.steps < stage.timeline.steps() {
            stage.save()?;
            return Err(TrainError::Interrupted { step: stage.tally.steps });
        }
        if at_rest && stage.saved.elapsed() >= request.options.checkpoint_every {
            stage.save()?;
        }
    }
    stage.save()?;
    Ok(stage.finish())
}

/// Everything that changes while a stage trains.
struct Stage<'a> {
    request: &'a TrainRequest<'a>,
    source: Source<'a>,
    left_out: LeftOut,
    objective: manifest::Objective,
    timeline: Timeline,
    schedule: Schedule,
    adapter: Lora,
    healthy: Vec<f32>,
    grads: LoraGrads,
    optimizer: AdamW,
    /// Ranges of values and how much faster than the schedule they learn.
    groups: Vec<(Range<usize>, f64)>,
    tally: Tally,
    run: Digest,
    metrics: Option<MetricsFile>,
    saved: Instant,
    pace: Pace,
    notes: Vec<String>,
    unsound: bool,
}

impl<'a> Stage<'a> {
    fn begin(
        request: &'a TrainRequest<'_>,
        rollouts: Option<&'a mut dyn Rollouts>,
        on_progress: &mut OnProgress<'_>,
    ) -> Result<Self> {
        let mut examples = request.examples()?;
        let left_out = examples.left_out;
        let settings = request.stage;
        let mut adapter = request.starting_adapter()?;
        let run = run_digest(request, &adapter, &examples.kept);
        let saved = match request.options.checkpoint {
            Some(path) => checkpoint::load(path, run, adapter.values().len())?,
            None => None,
        };
        let state = match saved {
            Some(state) => state,
            None => first_state(request, &adapter, &examples.kept, on_progress)?,
        };
        let mut objective = settings.objective.clone();
        let unsound = crate::logged::is_unsound(&examples.kept);
        let mut notes = crate::source::remember(&mut examples.kept, &state, &mut objective);
        if examples.rewritten > 0 {
            let count = examples.rewritten;
            notes.push(format!("the template rewrites the history of {count} conversations"));
        }
        adapter.values_mut().copy_from_slice(&state.adapter);
        let updates = state.tally.steps - state.tally.skipped_steps - state.tally.silent_steps;
        let adam = (settings.weight_decay, settings.adam_beta2);
        let optimizer = AdamW::new(adam, updates, state.first, state.second);
        let source = Source::of(request, examples.kept, rollouts)?;
        let timeline = source.timeline(settings, request.seed);
        let (rate, warmup, steps) = (settings.learning_rate, settings.warmup, timeline.steps());
        let metrics = request.options.metrics;
        Ok(Self {
            schedule: Schedule::new(settings.schedule, rate, warmup, steps),
            metrics: metrics.map(|path| MetricsFile::open(path, state.tally.steps)).transpose()?,
            grads: adapter.zero_grads(),
            groups: groups(&adapter, settings.loraplus_lr_ratio),
            saved: Instant::now(),
            pace: Pace::default(),
            unsound: unsound && matches!(objective, manifest::Objective::Grpo(_)),
            request,
            source,
            left_out,
            objective,
            timeline,
            adapter,
            healthy: state.healthy,
            optimizer,
            tally: state.tally,
            run,
            notes,
        })
    }

    /// One optimiser step: examples, gradient, guard, clip, update, a look at its health.
    fn step(&mut self) -> Result<StepMetrics> {
        let begun = Instant::now();
        let step = self.tally.steps;
        let round = self.source.round(step, &self.timeline, &self.adapter, self.request.seed)?;
        let generated = begun.elapsed();
        self.tally.attempts += round.metrics.as_ref().map_or(0, |metrics| metrics.attempts);
        self.grads.clear();
        let gradient = StepGradient {
            base: self.request.base,
            objective: &self.objective,
            anchor: Anchor::of(self.request),
            micro_batch_tokens: self.request.options.micro_batch_tokens,
            recompute_above: self.request.options.recompute_above,
            dropout: (self.request.lora.dropout, seed::of_step("dropout", self.request.seed, step)),
        };
        let examples = self.source.members(&round);
        let stats = gradient.accumulate(&examples, &self.adapter, &mut self.grads)?;
        let is_silent = examples.is_empty();
        if step == self.tally.silent_steps && !is_silent {
            guard::check(&self.adapter, &self.grads)?;
        }
        let norm = global_norm(self.grads.values());
        let learning_rate = self.schedule.learning_rate(step);
        if is_silent {
            self.tally.silent_steps += 1;
        } else if norm.is_finite() && stats.loss.is_finite() {
            let scale = clip_scale(norm, self.request.stage.clip);
            self.update(learning_rate, scale);
            self.tally.skipped_in_a_row = 0;
            self.tally.first_loss.get_or_insert(stats.loss);
            self.tally.last_loss = Some(stats.loss);
        } else {
            self.skip()?;
        }
        self.count(&stats, begun.elapsed());
        let mut metrics = self.metrics_of(&stats, norm, learning_rate, begun.elapsed());
        metrics.rollout = round.metrics;
        if let Some(rollout) = &mut metrics.rollout {
            rollout.seconds = generated.as_secs_f64();
        }
        self.look(&mut metrics)?;
        Ok(metrics)
    }

    fn update(&mut self, learning_rate: f64, scale: f32) {
        let rates: Vec<(Range<usize>, f64)> = self
            .groups
            .iter()
            .map(|(range, factor)| (range.clone(), factor * learning_rate))
            .collect();
        let values = self.adapter.values_mut();
        self.optimizer.update(&rates, values, self.grads.values(), scale);
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

    /// Remembers an adapter that looked healthy, and goes back to it when a check says stop.
    fn look(&mut self, metrics: &mut StepMetrics) -> Result<()> {
        let checks = &self.request.stage.health;
        match self.tally.health.look(metrics, checks) {
            Diagnosis::Healthy => self.healthy.copy_from_slice(self.adapter.values()),
            Diagnosis::Doubtful => {}
            Diagnosis::Failed(check, advice) => {
                let words = format!("{} at step {}: {advice}", check.as_str(), metrics.step);
                if checks[&check] == Reaction::Stop {
                    self.stop(check, &advice, &words)?;
                }
                metrics.advice = Some(words);
            }
        }
        Ok(())
    }

    fn stop(&mut self, check: HealthCheck, advice: &str, words: &str) -> Result<()> {
        // A stage that was never healthy has nothing worth keeping.
        if self.healthy.iter().all(|value| *value == 0.0) {
            let (check, step) = (check.as_str(), self.tally.steps);
            return Err(TrainError::Unhealthy { check, step, advice: advice.to_owned() });
        }
        self.adapter.values_mut().copy_from_slice(&self.healthy);
        self.tally.stopped = Some(words.to_owned());
        Ok(())
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
            preference: stats.pairs,
            labels: stats.labels,
            policy: stats.policy.map(|tally| tally.report()),
            rollout: None,
            advice: None,
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
            reward: metrics.rollout.as_ref().and_then(|rollout| rollout.reward),
            advice: metrics.advice.clone(),
            tokens_per_second: self.pace.tokens_per_second(),
            remaining: self.pace.remaining(total - done),
        }
    }

    fn save(&mut self) -> Result<()> {
        if let Some(path) = self.request.options.checkpoint {
            let (first, second) = self.optimizer.moments();
            let (reference, old) = self.source.known();
            let checkpoint = Checkpoint {
                tally: self.tally.clone(),
                adapter: self.adapter.values().to_vec(),
                first: first.to_vec(),
                second: second.to_vec(),
                healthy: self.healthy.clone(),
                reference,
                old,
            };
            checkpoint::save(path, self.run, &checkpoint)?;
        }
        self.saved = Instant::now();
        Ok(())
    }

    fn finish(self) -> TrainedStage {
        let mut notes = self.notes;
        let failed = self.tally.health.failed.iter();
        notes.extend(
            failed.map(|(check, (step, advice))| {
                format!("{} at step {step}: {advice}", check.as_str())
            }),
        );
        let lineage = StageLineage {
            settings: self.request.stage.clone(),
            lora: self.request.lora.clone(),
            steps: self.tally.steps,
            examples: self.source.len() as u64,
            tokens: self.tally.tokens,
            first_loss: self.tally.first_loss.unwrap_or_default(),
            last_loss: self.tally.last_loss.unwrap_or_default(),
            skipped_steps: self.tally.skipped_steps,
            seconds: self.tally.seconds,
            peak_memory_bytes: memory::peak_bytes(),
            left_out: self.left_out.total(),
            attempts: self.tally.attempts,
            stopped: self.tally.stopped,
            notes,
            offpolicy_unsound: self.unsound,
        };
        TrainedStage { adapter: self.adapter, lineage, left_out: self.left_out }
    }
}

/// LoRA+: A at the schedule's rate, B at `ratio` times that.
fn groups(adapter: &Lora, ratio: f64) -> Vec<(Range<usize>, f64)> {
    if ratio == 1.0 {
        return vec![(0..adapter.values().len(), 1.0)];
    }
    let parameters = adapter.layout().parameters().iter();
    parameters.map(|param| (param.range.clone(), if param.is_b { ratio } else { 1.0 })).collect()
}

/// Where a stage stands before its first step.
fn first_state(
    request: &TrainRequest<'_>,
    adapter: &Lora,
    examples: &[crate::rows::Example],
    on_progress: &mut OnProgress<'_>,
) -> Result<Checkpoint> {
    let begun = Instant::now();
    let mut ask = |anchor: Anchor<'_>| crate::source::ask(request, anchor, examples, on_progress);
    let is_logged = matches!(
        &request.stage.objective,
        manifest::Objective::Grpo(settings) if settings.source == GroupSource::Logged
    );
    let needs_reference = request.stage.objective.needs_reference();
    let reference = if needs_reference { ask(Anchor::of(request))? } else { Vec::new() };
    let start = Anchor { lora: Some(adapter), ..Anchor::of(request) };
    let old = if is_logged { ask(start)? } else { Vec::new() };
    let zeros = vec![0.0; adapter.values().len()];
    let healthy = match request.start {
        Some(_) => adapter.values().to_vec(),
        None => zeros.clone(),
    };
    Ok(Checkpoint {
        tally: Tally { seconds: begun.elapsed().as_secs_f64(), ..Tally::default() },
        adapter: adapter.values().to_vec(),
        first: zeros.clone(),
        second: zeros,
        healthy,
        reference,
        old,
    })
}
