//! Models behind HTTP: any OpenAI-compatible chat endpoint as a teacher ([`Upstream`]), and a fleet
//! of servers with vLLM's adapter lifecycle as a student ([`Fleet`]).
//!
//! Guarantees: submitting queues and returns at once, and every accepted request gets exactly one
//! last event; each wait has a limit of its own (to connect, for the first token, between tokens, in
//! all); a request is repeated only where that is safe (see `attempt.rs`), never after a token was
//! passed on; a replica that fails is left alone by its breaker until a probe succeeds; an answer by
//! other weights than those asked for is an error.
//!
//! Never: follows a redirect, sends anything to an address that is not configured, or shows an API
//! key in a log, an error or a `Debug` print.

mod attempt;
mod breaker;
mod client;
mod dialect;
mod endpoint;
mod error;
mod fleet;
mod key;
mod line;
mod live;
mod pick;
mod sse;
mod upstream;
mod wire;

pub use breaker::{Admission, Breaker, BreakerRules};
pub use dialect::{Dialect, TokenLimitField};
pub use endpoint::{Endpoint, Replay, Timeouts};
pub use error::UpstreamError;
pub use fleet::Fleet;
pub use key::ApiKey;
pub use upstream::Upstream;

#[cfg(test)]
mod tests;
