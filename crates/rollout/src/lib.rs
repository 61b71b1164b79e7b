//! Attempts for GRPO: our own engine answers with the adapter being trained, and rewards say how
//! well.
//!
//! Two kinds of [`Rollouts`](understudy_trainer::Rollouts):
//! - [`Replay`] branches from logged states: the model answers recorded prompts again, several
//!   times each, and verifiers, a judge or agreement with the reply that was accepted score it;
//! - [`Episodes`] plays an environment: the model calls tools over several turns.
//!
//! Guarantees: what comes back are the sampler's own ids and log-probabilities, of the adapter that
//! was handed over and of no other; a prompt is read once for all attempts at it; a turn's prompt
//! continues the ids that were sampled, so that a trajectory is one row wherever the chat template
//! only appends; equal adapter, prompts and seed give equal attempts; a reward that broke and an
//! environment that broke are counted and are no reward of 0.
//!
//! Never: computes a gradient, changes an adapter, or falls back to the base model.

mod episodes;
mod error;
mod replay;
mod sampler;

pub use episodes::Episodes;
pub use error::RolloutSetupError;
pub use replay::{Question, Replay};
pub use sampler::{Draw, Limits, Sampler};

#[cfg(test)]
mod tests;
