//! Losses as functions of per-token log-probabilities, with their exact derivative.
//!
//! A trainer holds, for every completion, one log-probability per token. That is all a loss of
//! this crate sees, and one number per token, `∂(loss of the step)/∂lp`, is all it gives back:
//!
//! | from | by | formulas |
//! | --- | --- | --- |
//! | a chosen and a rejected reply | [`preference::pair`] | DPO and fifteen relatives |
//! | a reply with a thumb up or down | [`label::label`] | KTO, APO-zero |
//! | a sampled reply with an advantage | [`policy::sample`] | PPO clip, GSPO, CISPO, and six more |
//! | the rewards of a group | [`advantage::batch`] | GRPO, Dr. GRPO, RLOO, GDPO |
//!
//! [`mismatch`] says how far sampler and trainer disagree, [`overlong`] handles replies that hit
//! the length limit.
//!
//! Guarantees: losses and derivatives are summands of the *step's* loss, already divided by what
//! the step divides by, so a trainer adds them up over micro-batches and never averages; a feature
//! asked for without the log-probabilities it needs is an error, not a no-op; arithmetic is `f64`
//! whatever comes in; equal input gives equal output, bit for bit.
//!
//! Never: sees a tensor or a model, does IO, or draws a random number.

pub mod advantage;
mod error;
pub mod label;
mod logistic;
mod measure;
pub mod mismatch;
pub mod overlong;
pub mod policy;
pub mod preference;
mod side;

pub use error::ObjectiveError;
pub use side::{LogProb, Side};
