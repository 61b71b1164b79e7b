//! The teacher: a frontier model behind an OpenAI-compatible endpoint, or a scripted expert, and
//! the budget that what it costs must stay within.
//!
//! Guarantees: [`OpenAiTeacher`] and [`ScriptedTeacher`] queue and return at once, so a teacher,
//! however slow, never delays anything else; the queue is bounded and every accepted request gets
//! exactly one last event. [`Metered`] reserves the dearest outcome before a request leaves and
//! settles the real one after it, so that concurrent requests together cannot overspend a day.
//!
//! Never: delays a student's reply, follows a redirect, or shows its API key in a log, an error or
//! a `Debug` print.

mod budget;
mod error;
mod key;
mod metered;
mod money;
mod openai;
mod pool;
mod refuse;
mod scripted;
mod stopwatch;

pub use budget::{Budget, Reservation};
pub use error::TeacherError;
pub use key::ApiKey;
pub use metered::{Metered, Spend};
pub use money::{MicroUsd, Price};
pub use openai::{Endpoint, OpenAiTeacher, TokenLimitField};
pub use scripted::ScriptedTeacher;

#[cfg(test)]
mod tests;
