//! HTTP: the OpenAI API for the application, outcomes from its users, adapters for its operators.
//!
//! Guarantees: every exchange is a durable step in the journal before the last byte of its reply
//! is sent; a reply names the arm and the adapter generation that made it; a field we know but
//! cannot honour is refused by name, never ignored; a route is read once per request, so a release
//! that moves meanwhile changes nothing for it.
//!
//! Never: holds business rules. Which arm serves is the router's decision, what may be released
//! the registry's.

mod adapters;
mod chat;
mod error;
mod exchange;
mod feedback;
mod openai;
mod relay;
mod server;
mod sse;
mod state;
mod status;

pub use server::{app, serve};
pub use state::{Gateway, GatewayParts};
