//! Generation vocabulary: what is asked of a model, what comes back, and the [`Backend`] between.
//!
//! Guarantees: everything above a backend (gateway, evaluation, orchestrator) builds, tests and
//! serves without a tensor library, against [`FakeBackend`].
//!
//! Never: depends on candle, tokio or HTTP.

mod backend;
mod error;
mod event;
mod fake;
mod request;
mod tokens;

pub use backend::{AdapterInfo, Backend, Sink, complete};
pub use error::InferenceError;
pub use event::{Completion, Event, FinishReason, Served, ServedAdapter, Timing, Usage};
pub use fake::FakeBackend;
pub use request::{GenerateRequest, Prompt, Sampling};
pub use tokens::TokenRecord;
