//! What one training stage is asked to do, what it says meanwhile, and what it leaves.

use std::{ops::ControlFlow, path::Path, time::Duration};

use understudy_manifest::{
    self as manifest, GroupSource, LabelExample, Method, Objective, PairExample, SftExample,
    StageLineage, TrainStage, Turns,
};
use understudy_model::{BaseModel, Lora, LoraSpec, Targets};

use crate::{
    attempt::Group,
    error::{Result, TrainError},
    logged,
    rows::{Examples, LeftOut},
};

/// One training stage.
#[derive(Debug, Clone)]
pub struct TrainRequest<'a> {
    pub base: &'a BaseModel,
    pub stage: &'a TrainStage,
    pub lora: &'a manifest::Lora,
    /// The adapter to continue from; `None` starts a fresh one.
    pub start: Option<&'a Lora>,
    /// Read by an SFT stage.
    pub sft: &'a [SftExample],
    /// Read by a DPO stage.
    pub pairs: &'a [PairExample],
    /// Read by a KTO stage.
    pub labels: &'a [LabelExample],
    /// Read by a GRPO stage over logged groups.
    pub groups: &'a [Group],
    /// What a GRPO stage's rollouts ask; `None` elsewhere.
    pub prompts: Option<&'a Prompts>,
    /// Decides the fresh adapter and the order of examples.
    pub seed: u64,
    pub options: TrainOptions<'a>,
}

/// The prompts of a stage that samples its own attempts, as the trainer needs to know them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prompts {
    /// Of everything that decides what is asked and how it is rewarded, so that a checkpoint is
    /// not continued with other prompts.
    pub digest: String,
    pub count: usize,
    /// Tokens of all prompts together, and of the longest.
    pub tokens: usize,
    pub longest: usize,
}

/// What has a default that fits a small machine.
#[derive(Debug, Clone)]
pub struct TrainOptions<'a> {
    /// Examples run through the model together up to so many tokens. Decides memory and speed, not
    /// the result.
    pub micro_batch_tokens: usize,
    /// A single example of more tokens keeps only what enters a layer, and computes the rest again:
    /// a third slower, several times smaller.
    pub recompute_above: usize,
    /// The file the stage's state is kept in. If it is there already, training goes on from it;
    /// once the stage is complete, it yields the same adapter again without training.
    pub checkpoint: Option<&'a Path>,
    /// How often that happens; it always happens at the end.
    pub checkpoint_every: Duration,
    /// The file that gets one JSON line per step, see [`crate::StepMetrics`]. The same numbers go
    /// to TensorBoard event files beside it: those of `NAME.metrics.jsonl` to `NAME.tensorboard/`.
    pub metrics: Option<&'a Path>,
}

impl Default for TrainOptions<'_> {
    fn default() -> Self {
        Self {
            micro_batch_tokens: 512,
            recompute_above: 1024,
            checkpoint: None,
            checkpoint_every: Duration::from_mins(1),
            metrics: None,
        }
    }
}

/// How far a stage is.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    pub method: Method,
    pub phase: Phase,
    /// In units of the phase.
    pub done: u64,
    pub total: u64,
    /// Of the last step.
    pub loss: Option<f64>,
    /// Mean reward of the last round of attempts.
    pub reward: Option<f64>,
    /// A check of the run's health that has just failed, and what to do.
    pub advice: Option<String>,
    /// Since this process began the phase.
    pub tokens_per_second: f64,
    pub remaining: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Asking the reference about every example; counted in examples.
    Reference,
    /// Counted in optimiser steps.
    Training,
}

/// Told about every step. `Break` ends training with [`TrainError::Interrupted`], after the
/// checkpoint was written.
pub type OnProgress<'a> = dyn FnMut(&Progress) -> ControlFlow<()> + 'a;

/// What a stage leaves.
#[derive(Debug, Clone)]
pub struct TrainedStage {
    pub adapter: Lora,
    pub lineage: StageLineage,
    pub left_out: LeftOut,
}

impl TrainRequest<'_> {
    /// The examples of this stage's method as tokens; at least one, unless the stage samples its
    /// own.
    pub(crate) fn examples(&self) -> Result<Examples> {
        let (base, max_tokens) = (self.base, self.stage.max_tokens);
        let (what, given, examples) = match &self.stage.objective {
            Objective::Sft { turns: Turns::All } => {
                ("examples", self.sft.len(), Examples::of_sft(base, self.sft, max_tokens)?)
            }
            Objective::Sft { turns: Turns::Last } => {
                let last: Vec<SftExample> = self.sft.iter().map(last_turn).collect();
                ("examples", last.len(), Examples::of_sft(base, &last, max_tokens)?)
            }
            Objective::Dpo(_) => {
                ("pairs", self.pairs.len(), Examples::of_pairs(base, self.pairs, max_tokens)?)
            }
            Objective::Kto(_) => {
                let labels = Examples::of_labels(base, self.labels, max_tokens)?;
                ("labelled replies", self.labels.len(), labels)
            }
            Objective::Grpo(settings) if settings.source == GroupSource::Logged => {
                let groups = logged::examples(self.groups, settings, base, max_tokens);
                ("groups", self.groups.len(), groups)
            }
            Objective::Grpo(_) => return Ok(Examples::default()),
        };
        if examples.kept.is_empty() {
            let left_out = examples.left_out;
            return Err(TrainError::NoExamples { what, given, left_out, max_tokens });
        }
        Ok(examples)
    }

    /// The adapter as it is before the first step.
    pub(crate) fn starting_adapter(&self) -> Result<Lora> {
        let fresh = Lora::init(self.base.decoder.config(), &spec(self.lora), self.seed)?;
        match self.start {
            None => Ok(fresh),
            Some(start) if start.same_layout(&fresh) && start.scale() == fresh.scale() => {
                Ok(start.scaled_like(&fresh)?)
            }
            Some(start) => {
                let (wanted, found) = (describe(&fresh), describe(start));
                Err(TrainError::StartMismatch { wanted, found })
            }
        }
    }
}

/// The same conversation with everything before its last reply as the prompt.
fn last_turn(example: &SftExample) -> SftExample {
    let mut last = example.clone();
    let reply = last.completion.len().saturating_sub(1);
    let before = last.completion.drain(..reply);
    last.prompt.extend(before);
    last
}

pub(crate) fn spec(lora: &manifest::Lora) -> LoraSpec {
    let targets = match lora.targets {
        manifest::Targets::AllLinear => Targets::AllLinear,
        manifest::Targets::Attention => Targets::Attention,
        manifest::Targets::Mlp => Targets::Mlp,
    };
    let alphas = lora.alpha_pattern.iter();
    LoraSpec {
        rank_stabilised: lora.rank_stabilised,
        rank_pattern: lora.rank_pattern.clone().into_iter().collect(),
        alpha_pattern: alphas.map(|(name, alpha)| (name.clone(), *alpha as f32)).collect(),
        ..LoraSpec::new(lora.rank, lora.alpha as f32, targets)
    }
}

fn describe(lora: &Lora) -> String {
    let modules: Vec<&str> = lora.layout().modules().iter().map(|module| module.name()).collect();
    let values = lora.values().len();
    let (rank, scale) = (lora.rank(), lora.scale());
    format!("rank {rank}, scale {scale}, {values} values on {}", modules.join(", "))
}
