//! How good one answer is.
//!
//! A [`Scorer`](understudy_manifest::Scorer) of a suite looks at an [`Answer`] to a case and gives
//! an [`Outcome`]: a [`Score`] from 0 to 1, or the reason why it cannot decide. The same scorers
//! judge a suite ([`score`]) and watch sampled traffic ([`live`]). Tool calls are matched as the
//! Berkeley leaderboard does ([`calls`]); a judge prefers one of two answers only if it does so in
//! both orders ([`judge`]), and may gate only after people agreed with it ([`calibration`]).
//!
//! Guarantees: what cannot be decided is `unscored` and shown, not 0; numbers are compared as
//! numbers, so "25" does not match "5"; the same answer gets the same score on every machine, apart
//! from what an embedder or a judge says.
//!
//! Never: repairs an answer before judging it, runs an answer as a program, knows which engine made
//! it, or calls a model other than through the [`Ports`] it was given.

mod answer;
pub mod calibration;
pub mod calls;
mod checks;
pub mod judge;
pub mod live;
mod outcome;
mod score;
pub mod similarity;
pub mod text;
pub mod trajectory;

pub use answer::{Answer, Measured};
pub use outcome::{Outcome, Score};
pub use score::{Ports, reads_json, score};
pub use understudy_reward::fields::FieldCounts;

#[cfg(test)]
mod tests;
