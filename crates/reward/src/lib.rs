//! What a completion is worth: verifiers that follow rules, programs in a sandbox, and a judge.
//!
//! [`Rewards`] are built from a recipe's [`RewardSpec`](understudy_manifest::RewardSpec)s and score
//! an [`Attempt`]. [`Rewards::constant_answers`] finds, before any training, what an answer that
//! ignores its question would earn. [`fields`], [`json`], [`number`] and [`calls`] are the
//! primitives, which evaluation and environments share.
//!
//! Guarantees: no opinion is not a zero, neither is a verifier that broke: both are left out of the
//! sum, and the failure is told. Components are kept beside the total. Whatever a program or a judge
//! does, a score comes within its time limit, with bounded memory.
//!
//! Never: repairs a completion before judging it, fetches a JSON Schema, runs a program as root,
//! pretends to an isolation it does not have ([`Sandbox::isolation`]), or prints an API key.

mod attempt;
pub mod calls;
mod command;
mod constant;
mod error;
pub mod fields;
pub mod json;
mod judge;
pub mod number;
mod rewards;
mod rule;
mod sandbox;

pub use attempt::Attempt;
pub use command::CommandReward;
pub use constant::{ConstantAnswer, ConstantAnswers, Flag, Question};
pub use error::RewardError;
pub use judge::{JUDGE_PROMPT_VERSION, Judge};
pub use rewards::{Failure, Reward, Rewards, Scored};
pub use rule::Rule;
pub use sandbox::{End, Isolation, Limits, Ran, Sandbox};

#[cfg(test)]
mod tests;
