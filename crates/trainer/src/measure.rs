//! Optimiser steps over exact ids, as a stage takes them, so that a benchmark can give another
//! program the very same tokens. No template, schedule, health check or checkpoint is in the way.

use std::time::{Duration, Instant};

use understudy_manifest::{self as manifest, TrainStage};
use understudy_model::{BaseModel, Lora, LoraGrads};

use crate::{
    error::Result,
    gradient::StepGradient,
    guard,
    optimizer::{AdamW, clip_scale, global_norm},
    reference::{Anchor, rows_mut},
    request::spec,
    rows::{Example, Row},
};

/// What one step is taken over, as ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Drill {
    /// Rows of at least two tokens, of which every token but the first is imitated.
    Imitate(Vec<Vec<u32>>),
    /// Prompt, chosen and rejected of every pair, none of them empty. The reference is the base,
    /// asked once beforehand.
    Prefer(Vec<[Vec<u32>; 3]>),
}

/// A fresh adapter and its optimiser, ready to take the same step again and again.
#[derive(Debug)]
pub struct Rehearsal<'a> {
    base: &'a BaseModel,
    stage: &'a TrainStage,
    micro_batch_tokens: usize,
    examples: Vec<Example>,
    adapter: Lora,
    grads: LoraGrads,
    optimizer: AdamW,
    steps: u64,
}

/// One step that was taken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rehearsed {
    pub loss: f64,
    /// Tokens that ran through the model: what the sides of a pair share ran once.
    pub tokens: u64,
    pub took: Duration,
    /// Of that, from the finished gradient to the updated adapter.
    pub update: Duration,
}

impl<'a> Rehearsal<'a> {
    /// Cuts steps into micro-batches of `micro_batch_tokens`. The objective of `stage` must be that
    /// of the drill; its rate, decay and clipping are used as they are.
    pub fn begin(
        base: &'a BaseModel,
        stage: &'a TrainStage,
        lora: &manifest::Lora,
        drill: &Drill,
        micro_batch_tokens: usize,
    ) -> Result<Self> {
        let adapter = Lora::init(base.decoder.config(), &spec(lora), 17)?;
        let mut examples = drill.examples();
        if stage.objective.needs_reference() {
            let anchor = Anchor { base, lora: None, temperature: 1.0 };
            let rows = anchor.log_probs(&examples, micro_batch_tokens, &mut |_| Ok(()))?;
            rows_mut(&mut examples).zip(rows).for_each(|(row, seen)| row.known.reference = seen);
        }
        let zeros = vec![0.0; adapter.values().len()];
        let adam = (stage.weight_decay, stage.adam_beta2);
        Ok(Self {
            grads: adapter.zero_grads(),
            optimizer: AdamW::new(adam, 0, zeros.clone(), zeros),
            base,
            stage,
            micro_batch_tokens,
            examples,
            adapter,
            steps: 0,
        })
    }

    /// Gradient, guard, clip and update over all examples.
    pub fn step(&mut self) -> Result<Rehearsed> {
        let begun = Instant::now();
        let gradient = StepGradient {
            base: self.base,
            objective: &self.stage.objective,
            anchor: Anchor { base: self.base, lora: None, temperature: 1.0 },
            micro_batch_tokens: self.micro_batch_tokens,
            recompute_above: self.micro_batch_tokens,
            dropout: (0.0, 0),
        };
        self.grads.clear();
        let examples: Vec<&Example> = self.examples.iter().collect();
        let stats = gradient.accumulate(&examples, &self.adapter, &mut self.grads)?;
        let finished = begun.elapsed();
        if self.steps == 0 {
            guard::check(&self.adapter, &self.grads)?;
        }
        let scale = clip_scale(global_norm(self.grads.values()), self.stage.clip);
        let values = self.adapter.values_mut();
        let rates = [(0..values.len(), self.stage.learning_rate)];
        self.optimizer.update(&rates, values, self.grads.values(), scale);
        self.steps += 1;
        let took = begun.elapsed();
        Ok(Rehearsed {
            loss: stats.loss,
            tokens: stats.tokens,
            took,
            update: took.saturating_sub(finished),
        })
    }
}

impl Drill {
    fn examples(&self) -> Vec<Example> {
        match self {
            Self::Imitate(rows) => rows
                .iter()
                .map(|ids| Example::imitate(vec![Row::new(&ids[..1], &ids[1..])]))
                .collect(),
            Self::Prefer(pairs) => pairs
                .iter()
                .map(|[prompt, chosen, rejected]| {
                    Example::prefer(Row::new(prompt, chosen), Row::new(prompt, rejected))
                })
                .collect(),
        }
    }
}
