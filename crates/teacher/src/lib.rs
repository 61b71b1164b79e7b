//! What a teacher may cost, and one that costs nothing.
//!
//! Guarantees: [`Metered`] reserves the dearest outcome before a request leaves and settles the real
//! one after it, so that concurrent requests together cannot overspend a day, neither a tenant's nor
//! everybody's; what was spent survives a restart where it is given a [`Ledger`]; [`ScriptedTeacher`] queues and returns at
//! once, so it never delays anything else.
//!
//! Never: talks to anybody. A frontier model behind HTTP is `understudy-upstream`'s.

mod accounts;
mod budget;
mod error;
mod ledger;
mod metered;
mod money;
mod pool;
mod redacted;
mod refuse;
mod scripted;

pub use accounts::{Accounts, Limits};
pub use budget::{Budget, Reservation};
pub use error::TeacherError;
pub use ledger::Ledger;
pub use metered::{Metered, Spend};
pub use money::{MicroUsd, Price};
pub use redacted::Redacted;
pub use scripted::ScriptedTeacher;

#[cfg(test)]
mod tests;
