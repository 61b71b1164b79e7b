//! Carries live evidence to a verdict, and the verdict to the registry and the routes.
//!
//! The controller reads the journal from where a release began, gives every judged unit of both
//! slices to [`understudy_router::judge`], and writes what that says into the registry; the routes
//! follow the registry. Memory releases go the same way, on a draw of their own. All state can be
//! rebuilt from the two, so a restart changes nothing. [`open`] is how a release begins, and an
//! [`Examiner`] shows what it rests on.
//!
//! Guarantees: a verdict is recorded, with the numbers it rests on, before any route moves; what
//! an operator does by hand in the registry takes effect at the next tick like any verdict; a
//! candidate that cannot be loaded never meets a user; and a canary that nobody watches is taken off
//! by a [`DeadMan`].
//!
//! Never: decides (the router does), or moves a route the registry does not ask for.

mod attempts;
mod begin;
mod controller;
mod deadman;
mod defaults;
mod early;
mod error;
mod examine;
mod latency;
mod memory;
mod observe;
mod rules;
mod watch;

pub use begin::{Opening, open};
pub use controller::{Controller, Note, Parts};
pub use deadman::DeadMan;
pub use defaults::PolicyDefaults;
pub use error::CanaryError;
pub use examine::{Decided, Examined, Examiner, decided};
pub use latency::{Basis, LatencyLimit, LatencyLimits};
pub use memory::Lessons;
pub use rules::{Rules, fresh_salt};

#[cfg(test)]
mod tests;
