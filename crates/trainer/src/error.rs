//! Every way training can end other than with an adapter.

use std::{io, path::PathBuf};

use understudy_model::ModelError;
use understudy_objective::ObjectiveError;
use understudy_storage::StorageError;

use crate::{attempt::RolloutError, rows::LeftOut};

#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    #[error(
        "nothing to train on: of {given} {what}, {} are longer than {max_tokens} tokens, {} have no difference to learn from and {} are groups whose sampler or prompt is not known; give more, or raise max_tokens",
        left_out.too_long, left_out.no_difference, left_out.unsound
    )]
    NoExamples { what: &'static str, given: usize, left_out: LeftOut, max_tokens: usize },

    #[error(
        "could not tokenise the example from {trajectory}: its completion is not one assistant message, and nothing else may be imitated; cut the conversation before its last reply"
    )]
    NotOneReply { trajectory: String },

    #[error(
        "could not tokenise the example from {trajectory}: the chat template rewrites the prompt once a reply follows it, so prompt and reply cannot be told apart; use a template that only appends"
    )]
    PromptRewritten { trajectory: String },

    #[error(
        "could not tokenise the example from {trajectory}: the chat template does not end the reply with a stop token, so the model would unlearn stopping; use this model's own chat template"
    )]
    NoStopToken { trajectory: String },

    #[error(
        "could not continue from the given adapter: the recipe asks for {wanted}, it has {found}; make [lora] equal to the one it was trained with, or start fresh"
    )]
    StartMismatch { wanted: String, found: String },

    #[error(
        "the first backward pass gave {tensor} {what}: the model's backward pass does not reach it, or the example is degenerate; nothing was trained"
    )]
    BrokenGradient { tensor: String, what: &'static str },

    #[error(
        "training diverged: {steps} steps in a row had a loss or gradient that was not finite; lower learning_rate or raise warmup"
    )]
    Diverged { steps: u64 },

    #[error("training was stopped after step {step}; run it again to continue from its checkpoint")]
    Interrupted { step: u64 },

    #[error(
        "checkpoint {} belongs to another run (other settings, examples, seed or base); delete it to start over", path.display()
    )]
    ForeignCheckpoint { path: PathBuf },

    #[error("checkpoint {} is damaged: {what}; delete it to start over", path.display())]
    BadCheckpoint { path: PathBuf, what: String },

    #[error("could not describe the adapter for {}: {what}", path.display())]
    Manifest { path: PathBuf, what: String },

    #[error("could not {attempt} {}", path.display())]
    Io { attempt: &'static str, path: PathBuf, source: io::Error },

    #[error(
        "the stage's health check `{check}` failed after step {step}: {advice}; nothing is kept of the stage, because it was not healthy from the start"
    )]
    Unhealthy { check: &'static str, step: u64, advice: String },

    #[error(
        "the stage samples its own attempts, and was given nothing to sample from; start it with rollouts"
    )]
    NoRollouts,

    #[error(transparent)]
    Rollout(#[from] RolloutError),

    #[error(transparent)]
    Objective(#[from] ObjectiveError),

    #[error(transparent)]
    Storage(#[from] StorageError),

    #[error(transparent)]
    Model(#[from] ModelError),
}

pub type Result<T, E = TrainError> = std::result::Result<T, E>;
