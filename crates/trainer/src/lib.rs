//! SFT, preferences and GRPO over LoRA: from examples, or attempts, to an adapter directory.
//!
//! One stage is one call of [`train_stage`]: it tokenises the examples through the model's own
//! chat template, trains an adapter, fresh or continued, and returns it with its lineage. A GRPO
//! stage that samples its own attempts is one call of [`train_on_policy`], which hands the adapter
//! to a [`Rollouts`] for every round and trains on the ids that come back.
//! [`plan`] says what that would cost without doing it, and [`publish`] writes the result as a
//! PEFT directory with our manifest.
//!
//! Guarantees: the loss is on the model's own tokens alone and is divided by the counts of the
//! whole optimiser step; equal inputs and seed give the same bytes on the same device and thread
//! count, also when the run was killed and resumed from its checkpoint; a tensor that gets no
//! gradient, or one that is not finite, stops the run by name; what is left out is counted.
//!
//! Never: reads the journal or the registry, chooses between adapters, writes to the base, draws
//! a progress bar.

mod attempt;
mod batching;
mod checkpoint;
mod error;
mod export;
mod fresh;
mod gradient;
mod guard;
mod health;
mod logged;
mod measure;
mod memory;
mod metrics;
mod optimizer;
mod pace;
mod plan;
mod reference;
mod request;
mod rows;
mod schedule;
mod seed;
mod source;
mod speed;
mod stage;
mod tensorboard;
mod timeline;

pub use attempt::{Attempt, Call, Group, RolloutError, Rollouts};
pub use error::{Result, TrainError};
pub use export::{Provenance, PublishedAdapter, publish};
pub use fresh::RolloutMetrics;
pub use measure::{Drill, Rehearsal, Rehearsed};
pub use metrics::StepMetrics;
pub use plan::{Plan, plan};
pub use request::{OnProgress, Phase, Progress, Prompts, TrainOptions, TrainRequest, TrainedStage};
pub use rows::LeftOut;
pub use speed::{pass_flops, time_pass};
pub use stage::{train_on_policy, train_stage};

#[cfg(test)]
mod tests;
