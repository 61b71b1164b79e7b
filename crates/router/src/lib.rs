//! Which arm serves a request, and the verdict on live evidence.
//!
//! Two questions, each answered by a pure function:
//!
//! - [`Route::assign`]: who answers this unit (a session, a trajectory or a user)? One salted hash
//!   decides, so a unit keeps its arm through the whole ramp, and no server needs to remember it.
//! - [`judge`] (or [`verdict`](fn@verdict), without the sentences): given what the units of both arms went through, may the canary get more traffic,
//!   be promoted, or must it leave the stage? See `verdict.rs`, the file that decides a canary's fate.
//!
//! Guarantees: the canary is only ever compared with an equal, concurrent slice of the stable arm;
//! looking often is safe, because every bound is time-uniform; the same observations in the same
//! order give the same verdict; too little evidence is never taken for success. [`RouteTable`] is how a decision reaches requests: a pointer they read once each.
//!
//! Never: does IO, reads a clock or draws a random number.

mod assign;
mod evidence;
mod finding;
mod followers;
mod policy;
mod routes;
mod support;
mod table;
mod verdict;

pub use assign::{Exposure, Salt, Side};
pub use evidence::{ArmSummary, Behaviour, Evidence, Observation};
pub use finding::{Finding, Signal, Test, UnitCounts};
pub use followers::{Follower, Followers, LEASE};
pub use policy::{Control, Margin, Policy, Steps};
pub use routes::{Assignment, Canary, Route, Tap, Target};
pub use support::{Observed, Shadowed, Support};
pub use table::{Asked, Numbered, RouteTable, TaskRoute};
pub use verdict::{Judgement, Verdict, judge, verdict};

/// Why a value cannot steer traffic or judge it. Each names the field at fault.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RouterError {
    #[error("{text:?} is not a salt: expected 32 hexadecimal characters")]
    Salt { text: String },
    #[error("{value} is not a share of traffic: expected a number from 0 to 1")]
    Exposure { value: f64 },
    #[error("steps {steps:?} are no ramp: {problem}")]
    Steps { steps: Vec<u8>, problem: &'static str },
    #[error("policy field `{field}` is {value}: expected {expected}")]
    Policy { field: &'static str, value: f64, expected: &'static str },
    #[error(
        "policy field `rollback_on` is empty: name at least one guard, or nothing stops a harm"
    )]
    NoGuards,
    #[error(
        "policy field `control` is pooled: while the ramp goes on, a drift of the traffic would look \
         like harm of the canary; say concurrent, an equal slice of the stable arm"
    )]
    PooledControl,
    #[error("policy field `rollback_on` names cost: set `cost_cap`, or one unit can decide")]
    NoCostCap,
    #[error(
        "policy field `missing` is worst_case: set `maturation_ms`, or no reward is ever missing"
    )]
    NothingMissing,
    #[error("route field `{field}` is wrong: {problem}")]
    Route { field: &'static str, problem: &'static str },
    #[error("cannot count the observation of unit {unit:?}: reward {reward} is not from 0 to 1")]
    Reward { unit: String, reward: f64 },
    #[error("cannot count the observation of unit {unit:?}: cost {cost} is not a number from 0 up")]
    Cost { unit: String, cost: f64 },
}
