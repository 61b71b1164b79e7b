//! Generation vocabulary: what is asked of a model, what comes back, and the [`Backend`] between.
//!
//! Guarantees: everything above a backend (gateway, evaluation, orchestrator) builds, tests and
//! serves without a tensor library, against [`FakeBackend`]
//! in tests and [`MockEngine`] behind a server; the latter honours or refuses, never ignores, what a
//! request asks for.
//!
//! Never: depends on candle, tokio or HTTP.

mod adapter;
mod backend;
mod cancel;
mod defaults;
mod embed;
mod error;
mod event;
mod fake;
mod loads;
mod mock;
mod request;
mod sampling;
mod shelf;
mod stats;
mod stopwatch;
mod tokens;
mod uses;

pub use adapter::{AdapterInfo, Expected, LoadAdapter, LoadTiming, LoadedAdapter};
pub use backend::{Backend, Sink, Student, complete};
pub use cancel::CancelToken;
pub use defaults::SamplingDefaults;
pub use embed::{Embedder, HashingEmbedder};
pub use error::InferenceError;
pub use event::{
    Completion, Delta, Event, FinishReason, ScoredToken, Served, ServedAdapter, StopReason, Timing,
    TopToken, Usage,
};
pub use fake::FakeBackend;
pub use loads::{Attempt, LOAD_SECONDS, LoadLog, Loads, Spread};
pub use mock::{MockConfig, MockEngine};
pub use request::{AdapterChoice, Admission, Chat, GenerateRequest, LogProbsOf, Prompt, Returns};
pub use sampling::{Constraint, Sampling};
pub use shelf::{Lease, Shelf};
pub use stats::{Gauge, InLine, STEP_ROWS, Stats};
pub use stopwatch::Stopwatch;
pub use tokens::TokenRecord;
pub use uses::{Use, Uses};
