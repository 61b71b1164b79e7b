//! Serves a base model and any number of adapters: continuous batching with hot-swappable adapter
//! generations, behind [`understudy_inference::Backend`].
//!
//! Guarantees: a request finishes on the adapter generation it was submitted with, through any
//! swap, rollback or unload; keys and values never cross generations; a reply does not depend on
//! what else is in the batch; text is never cut within a character and never holds part of a stop
//! string it was to end before; a completion that was constrained and not cut short belongs to its
//! language; every accepted request gets exactly one last event unless it was cancelled, also when
//! it panics, when the model fails, and when the engine is dropped.
//!
//! Never: speaks HTTP, falls back to the base when an adapter is unknown, blocks a caller on the
//! model, runs a constraint it could only follow in part, or spends time on a request whose own has
//! run out.

mod config;
mod counters;
mod engine;
mod error;
mod gap;
mod grammar;
mod intake;
mod load;
mod prefix;
mod sampler;
mod schedule;
mod sequence;
mod step;
mod stop;
mod store;
mod student;
mod verify;
mod visit;
mod worker;

pub use config::{Config, KvCacheDtype};
pub use engine::Engine;
pub use error::EngineError;
pub use understudy_inference::Stats;

#[cfg(test)]
mod tests;
