//! The scorers of suites, on a share of live traffic.
//!
//! A suite says how a version did before it served; the same scorers say how it does now. Replies
//! are read from the journal after the fact ([`Watch::read`]) or one by one ([`Watch::note`]), and
//! each arm's mean stands beside the others' ([`Report`]). Only scorers that need no expected answer
//! can look at live traffic, or those that are given the same one for every reply ([`Rules::new`]).
//!
//! Guarantees: whether a trajectory is looked at follows from its id and the share alone, so every
//! process chooses the same ones, and a larger share chooses those of a smaller one as well; the
//! intervals hold at all times together, however often somebody looks; what a scorer cannot decide is
//! counted and in no mean.
//!
//! Never: stands in the way of a reply, writes to the journal, decides about a release, or keeps what
//! anybody said.

mod rules;
mod watch;

pub use rules::{Rules, RulesError};
pub use watch::{Report, Row, Watch};

#[cfg(test)]
mod tests;
