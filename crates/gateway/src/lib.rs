//! HTTP: the OpenAI and vLLM APIs for applications, telemetry of theirs and outcomes from their
//! users, adapters for their operators.
//!
//! Guarantees: every chat is a step in the journal before the last byte of its reply is sent; a body
//! of telemetry and an outcome are durable before they are acknowledged; a reply names the arm and
//! the adapter generation that made it; a field we know but cannot honour is refused by name, never
//! ignored; a route is read once per request, so a release that
//! moves meanwhile changes nothing for it; a client that goes away frees what it asked for, and one
//! that reads slowly holds up nobody.
//!
//! Never: holds business rules. Which arm serves is the router's decision, what may be released
//! the registry's, and what a body may say `understudy-openai`'s.

mod adapters;
mod auth;
mod beside;
mod body;
mod chat;
mod completions;
mod control;
mod error;
mod exchange;
mod feedback;
mod lengthy;
mod live;
mod loops;
mod memory;
mod metrics;
mod models;
mod prompt;
mod relay;
mod releases;
mod respond;
mod routing;
mod server;
mod state;
mod status;
mod telemetry;
mod tokens;
mod trajectories;
mod watch;

pub use auth::Door;
pub use live::LiveBoard;
pub use loops::Board;
pub use memory::Memories;
pub use server::{Patience, Tls, TlsError, app, serve, serve_loading, serve_with};
pub use state::{AdapterUpdates, Gateway, GatewayParts};
pub use telemetry::serve_grpc;
pub use watch::{journal_name, wire};

#[cfg(test)]
mod tests;
