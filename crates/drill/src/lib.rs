//! Releases rehearsed over HTTP before they are needed: a whole server on a socket, simulated users
//! who ask and judge what they read, a fault that is built in, and what the controller makes of it.
//!
//! - [`play`]: one release in one world of [`Scenario`](understudy_simulation::Scenario), until the
//!   controller decides; with how many sessions that took.
//! - [`soak`]: release after release under load, for as long as asked, and afterwards whether every
//!   reply and every outcome is accounted for.
//!
//! Everything between the users' sockets and the models is what `understudy serve` runs: gateway,
//! journal, registry, router and canary controller. Models are scripts (`script.rs`): who answers
//! what, and how long it would have taken, is drawn from the seed and the session's name. In a drill
//! time is a clock that moves between rounds only, so equal settings end equally on every machine;
//! but for a dead replica, because breakers and hedges go by the machine's own time.
//!
//! Guarantees: users do not know which arm answered them; nothing is told to the controller but
//! through the journal, as in production.
//!
//! Never: touches a data directory other than its own temporary one, or sleeps to pretend a latency.

mod audience;
mod crowd;
mod drill;
mod ending;
mod error;
mod house;
mod script;
mod soak;
mod stage;
mod tally;

pub use drill::{Drill, Played, Repeated, drill_rules, play, repeat};
pub use ending::Ending;
pub use error::DrillError;
pub use soak::{Soak, Soaked, soak};
pub use tally::Sum;

#[cfg(test)]
mod tests;
