//! How good one answer is.
//!
//! A [`Grader`] is made once from a [`Scorer`](understudy_manifest::Scorer) and a case, which reads
//! all that the case expects; it then looks at any number of [`Answer`]s and gives each an
//! [`Outcome`]: a [`Score`] from 0 to 1, or the reason why it cannot decide. Tool calls are matched
//! as the Berkeley leaderboard does, with or without its quirks ([`calls`]).
//!
//! Guarantees: an expectation that cannot be read is an error before anything is generated; what
//! cannot be decided is `unscored` and shown, not 0; numbers are compared as numbers, so "25" does
//! not match "5"; the same answer gets the same score on every machine, apart from what an embedder
//! says.
//!
//! Never: repairs an answer before judging it, runs an answer as a program, fetches a JSON Schema,
//! or asks a model other than the [`Embedder`](similarity::Embedder) and the
//! [`Assessor`](rubric::Assessor) it was given.

mod answer;
pub mod calls;
mod error;
mod grader;
mod outcome;
pub mod rubric;
pub mod similarity;
pub mod state;
pub mod text;
pub mod trajectory;

pub use answer::{Answer, Measured};
pub use error::ScorerError;
pub use grader::{Aids, Grader};
pub use outcome::{Outcome, Score};
pub use understudy_reward::fields::FieldCounts;

#[cfg(test)]
mod tests;
