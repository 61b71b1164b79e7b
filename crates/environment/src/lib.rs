//! Places where a model acts: it calls tools over several turns and earns a reward at the end.
//!
//! An [`Environment`] makes tasks from a seed and starts an [`Episode`] for one. The caller samples
//! a reply, hands it to [`Episode::act`], and appends what is observed, until the episode is over.
//! [`PriceDesk`] is one: look prices up, calculate, answer.
//!
//! Guarantees: the same seed and replies give the same episode on every machine; no task of one
//! [`Split`] can occur in the other; a reply, however odd, gets an observation or ends the episode
//! and never breaks it; an environment that itself breaks says so ([`Turn::Failed`]), which is no
//! reward of 0.
//!
//! Never: samples from a model, runs a program, touches the network, a disk or a clock.

mod arithmetic;
mod episode;
mod error;
mod price_desk;
mod protocol;

pub use arithmetic::{ArithmeticError, evaluate};
pub use episode::{Environment, Episode, Split, Task, Turn, named};
pub use error::EnvironmentError;
pub use price_desk::PriceDesk;
pub use protocol::{CallStyle, Signature, read_calls, write_call};
