//! Where a stage's examples come from: a fixed set in a seeded order, or fresh attempts.

use std::{ops::ControlFlow, time::Instant};

use understudy_manifest::{self as manifest, GroupSource, GrpoSettings, TrainStage};
use understudy_model::Lora;

use crate::{
    attempt::Rollouts,
    checkpoint::Checkpoint,
    error::{Result, TrainError},
    fresh::{self, RolloutMetrics},
    logged,
    pace::Pace,
    reference::{Anchor, rows_mut},
    request::{OnProgress, Phase, Progress, TrainRequest},
    rows::{Example, LeftOut},
    seed,
    timeline::Timeline,
};

/// What the steps of a stage are made of.
#[derive(Debug)]
pub(crate) enum Source<'a> {
    Fixed(Vec<Example>),
    Fresh(Fresh<'a>),
}

/// Attempts sampled from the adapter as it stands.
#[derive(Debug)]
pub(crate) struct Fresh<'a> {
    rollouts: &'a mut dyn Rollouts,
    settings: &'a GrpoSettings,
    /// The policy a divergence penalty holds on to.
    anchor: Anchor<'a>,
    micro_batch_tokens: usize,
    /// The examples of the round that is being trained on.
    round: Vec<Example>,
}

/// One step's share of the source.
#[derive(Debug, Default)]
pub(crate) struct Round {
    members: Vec<usize>,
    /// Of attempts sampled for this very step.
    pub metrics: Option<RolloutMetrics>,
}

impl<'a> Source<'a> {
    pub(crate) fn of(
        request: &'a TrainRequest<'_>,
        examples: Vec<Example>,
        rollouts: Option<&'a mut dyn Rollouts>,
    ) -> Result<Self> {
        let manifest::Objective::Grpo(settings) = &request.stage.objective else {
            return Ok(Self::Fixed(examples));
        };
        if settings.source == GroupSource::Logged {
            return Ok(Self::Fixed(examples));
        }
        let rollouts = rollouts.ok_or(TrainError::NoRollouts)?;
        if rollouts.prompts() == 0 {
            let (left_out, max_tokens) = (LeftOut::default(), request.stage.max_tokens);
            return Err(TrainError::NoExamples { what: "prompts", given: 0, left_out, max_tokens });
        }
        let micro_batch_tokens = request.options.micro_batch_tokens;
        let anchor = Anchor::of(request);
        Ok(Self::Fresh(Fresh { rollouts, settings, anchor, micro_batch_tokens, round: Vec::new() }))
    }

    /// How many examples, or prompts, there are.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Fixed(examples) => examples.len(),
            Self::Fresh(fresh) => fresh.rollouts.prompts(),
        }
    }

    pub(crate) fn timeline(&self, stage: &TrainStage, seed: u64) -> Timeline {
        let timeline = Timeline::new(self.len(), stage.batch_size, stage.epochs, seed);
        match self {
            Self::Fixed(_) => timeline,
            Self::Fresh(fresh) => {
                timeline.repeating(fresh.settings.iterations, fresh.settings.max_rounds)
            }
        }
    }

    /// Gets a step's examples ready, sampling them first where they are fresh.
    pub(crate) fn round(
        &mut self,
        step: u64,
        timeline: &Timeline,
        policy: &Lora,
        stage_seed: u64,
    ) -> Result<Round> {
        let prompts = timeline.members(step);
        match self {
            Self::Fixed(_) => Ok(Round { members: prompts, metrics: None }),
            Self::Fresh(fresh) => {
                let metrics = if timeline.is_at_rest(step) {
                    Some(fresh.sample(
                        &prompts,
                        policy,
                        seed::of_step("rollouts", stage_seed, step),
                    )?)
                } else {
                    None
                };
                Ok(Round { members: (0..fresh.round.len()).collect(), metrics })
            }
        }
    }

    pub(crate) fn members(&self, round: &Round) -> Vec<&Example> {
        let all = match self {
            Self::Fixed(examples) => examples,
            Self::Fresh(fresh) => &fresh.round,
        };
        round.members.iter().map(|index| &all[*index]).collect()
    }

    /// What was asked before the first step, for the checkpoint: references and start policies.
    pub(crate) fn known(&self) -> (Vec<f32>, Vec<f32>) {
        let Self::Fixed(examples) = self else { return (Vec::new(), Vec::new()) };
        let rows = || examples.iter().flat_map(|example| &example.rows);
        let is_logged = rows().any(|row| !row.known.start.is_empty());
        (
            rows().flat_map(|row| &row.known.reference).copied().collect(),
            if is_logged {
                rows().flat_map(|row| &row.known.start).copied().collect()
            } else {
                Vec::new()
            },
        )
    }
}

impl Fresh<'_> {
    fn sample(&mut self, prompts: &[usize], policy: &Lora, seed: u64) -> Result<RolloutMetrics> {
        let groups = self.rollouts.groups(policy, prompts, seed)?;
        let (mut examples, metrics) = fresh::examples(groups, self.settings);
        let budget = self.micro_batch_tokens;
        let mut quiet = |_: usize| Ok(());
        if self.settings.policy.kl.beta > 0.0 {
            let rows = self.anchor.log_probs(&examples, budget, &mut quiet)?;
            rows_mut(&mut examples).zip(rows).for_each(|(row, lps)| row.known.reference = lps);
        }
        if self.settings.iterations > 1 {
            // From the second update on the ratio is to the policy that sampled.
            let current = Anchor { lora: Some(policy), ..self.anchor };
            let rows = current.log_probs(&examples, budget, &mut quiet)?;
            rows_mut(&mut examples).zip(rows).for_each(|(row, lps)| row.known.old = lps);
        }
        self.round = examples;
        Ok(metrics)
    }
}

/// Asks a policy that stands still about every trained token of a fixed source, row after row.
pub(crate) fn ask(
    request: &TrainRequest<'_>,
    anchor: Anchor<'_>,
    examples: &[Example],
    on_progress: &mut OnProgress<'_>,
) -> Result<Vec<f32>> {
    let begun = Instant::now();
    let mut advance = |done: usize| {
        let tokens: usize = examples[..done].iter().map(Example::tokens).sum();
        let pace = Pace { units: done as u64, tokens: tokens as u64, time: begun.elapsed() };
        let progress = Progress {
            method: request.stage.method,
            phase: Phase::Reference,
            done: done as u64,
            total: examples.len() as u64,
            loss: None,
            reward: None,
            advice: None,
            tokens_per_second: pace.tokens_per_second(),
            remaining: pace.remaining((examples.len() - done) as u64),
        };
        match on_progress(&progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(TrainError::Interrupted { step: 0 }),
        }
    };
    let rows = anchor.log_probs(examples, request.options.micro_batch_tokens, &mut advance)?;
    Ok(rows.concat())
}

/// Gives every row of a fixed source what was asked about it, and settles what a logged group's
/// ratio is to. Returns what the lineage should say of it.
pub(crate) fn remember(
    examples: &mut [Example],
    state: &Checkpoint,
    objective: &mut manifest::Objective,
) -> Vec<String> {
    let cut = |values: &[f32], examples: &[Example]| -> Vec<Vec<f32>> {
        let mut rest = values;
        let rows = examples.iter().flat_map(|example| &example.rows);
        rows.map(|row| {
            let (own, tail) = rest.split_at(row.trained_tokens().min(rest.len()));
            rest = tail;
            own.to_vec()
        })
        .collect()
    };
    let reference = cut(&state.reference, examples);
    rows_mut(examples).zip(reference).for_each(|(row, lps)| row.known.reference = lps);
    if state.old.is_empty() {
        return Vec::new();
    }
    let start = cut(&state.old, examples);
    rows_mut(examples).zip(&start).for_each(|(row, lps)| row.known.start.clone_from(lps));
    match objective {
        manifest::Objective::Grpo(settings) => vec![logged::anchor(examples, &start, settings)],
        _ => Vec::new(),
    }
}
