//! A simulated support desk: customers' messages, the people who use the answers, and an expert.
//!
//! The task: read a message, answer with JSON naming the intent, the priority and the fields.
//!
//! Guarantees: everything follows from a seed; held-out messages share no wording, product, city,
//! account, month or order number with production ones, so that memorising cannot win; the expert
//! is a rule book that reads the message, and does not know one convention of this house, which
//! only the users' edits reveal.
//!
//! Never: touches the network, a model or a clock.

mod expert;
mod phrasebook;
mod ticket;
mod user;

pub use expert::Expert;
pub use phrasebook::Wording;
pub use ticket::{Intent, Priority, SYSTEM_PROMPT, Ticket, Triage, suite, tickets};
pub use user::{Reaction, Temper, react};

#[cfg(test)]
mod tests;
