//! What one training stage is asked to do, what it says meanwhile, and what it leaves.

use std::{ops::ControlFlow, path::Path, time::Duration};

use understudy_manifest::{
    self as manifest, Method, PairExample, SftExample, StageLineage, TrainStage,
};
use understudy_model::{BaseModel, Lora, LoraSpec, Targets};

use crate::{
    error::{Result, TrainError},
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
    /// Decides the fresh adapter and the order of examples.
    pub seed: u64,
    pub options: TrainOptions<'a>,
}

/// What has a default that fits a small machine.
#[derive(Debug, Clone)]
pub struct TrainOptions<'a> {
    /// How many tokens run through the model at once. Decides memory and speed, not the result.
    pub micro_batch_tokens: usize,
    pub reference: Reference,
    /// The file the stage's state is kept in. If it is there already, training goes on from it;
    /// once the stage is complete, it yields the same adapter again without training.
    pub checkpoint: Option<&'a Path>,
    /// How often that happens; it always happens at the end.
    pub checkpoint_every: Duration,
    /// The file that gets one JSON line per step, see [`crate::StepMetrics`].
    pub metrics: Option<&'a Path>,
}

impl Default for TrainOptions<'_> {
    fn default() -> Self {
        Self {
            micro_batch_tokens: 1024,
            reference: Reference::default(),
            checkpoint: None,
            checkpoint_every: Duration::from_mins(1),
            metrics: None,
        }
    }
}

/// What a DPO stage holds on to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reference {
    /// The policy as it stood when the stage began. A fresh adapter changes nothing yet, so for it
    /// this *is* the base with the adapter switched off; for one that continues, it keeps what
    /// earlier stages learnt.
    #[default]
    Start,
    /// The base with the adapter switched off, also when continuing. It counts everything earlier
    /// stages learnt as preference already won, and pulls back towards the base.
    AdapterOff,
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
    /// Since this process began the phase.
    pub tokens_per_second: f64,
    pub remaining: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Asking the reference about every pair; counted in pairs.
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
    /// The examples of this stage's method as tokens; at least one.
    pub(crate) fn examples(&self) -> Result<Examples> {
        let max_tokens = self.stage.max_tokens;
        let (what, given, examples) = match self.stage.method {
            Method::Sft => {
                ("examples", self.sft.len(), Examples::of_sft(self.base, self.sft, max_tokens)?)
            }
            Method::Dpo => {
                ("pairs", self.pairs.len(), Examples::of_pairs(self.base, self.pairs, max_tokens)?)
            }
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
                Ok(start.clone())
            }
            Some(start) => {
                let (wanted, found) = (describe(&fresh), describe(start));
                Err(TrainError::StartMismatch { wanted, found })
            }
        }
    }
}

fn spec(lora: &manifest::Lora) -> LoraSpec {
    let targets = match lora.targets {
        manifest::Targets::AllLinear => Targets::AllLinear,
        manifest::Targets::Attention => Targets::Attention,
        manifest::Targets::Mlp => Targets::Mlp,
    };
    LoraSpec { rank: lora.rank, alpha: lora.alpha as f32, rank_stabilised: false, targets }
}

fn describe(lora: &Lora) -> String {
    let modules: Vec<&str> = lora.layout().modules().iter().map(|module| module.name()).collect();
    let values = lora.values().len();
    let (rank, scale) = (lora.rank(), lora.scale());
    format!("rank {rank}, scale {scale}, {values} values on {}", modules.join(", "))
}
