//! Seeded traffic driven through the real decision rule.
//!
//! Before a release meets a user, its policy can meet a world whose truth is known: identical arms,
//! a canary ten points worse, a dead replica, a teacher that fell silent. Units arrive, the router's
//! own [`Route`](understudy_router::Route) assigns them, [`Evidence`](understudy_router::Evidence)
//! folds what they went through, and [`verdict`](fn@understudy_router::verdict) is asked as often
//! as it likes. There is no second copy of the rule here that could be right while the rule is wrong.
//!
//! - [`replicate`]: how often does this policy roll back, promote or hold in this world, and when?
//! - [`plan`]: how long until a verdict at this traffic?
//! - [`stopping`]: how often does a single formula stop, and when? For comparing formulas.
//!
//! Guarantees: equal seeds give equal results on every machine; each share comes with its interval.
//!
//! Never: does IO, reads a clock, or decides anything itself.

mod clustered;
mod error;
mod plan;
mod release;
mod replicate;
mod scenario;
mod stopping;
mod summary;
mod traffic;
mod world;

pub use clustered::{Counted, Users, clustered};
pub use error::SimulationError;
pub use plan::{Detection, Plan, StepPlan, Traffic, plan};
pub use release::{Ending, Settings, simulate};
pub use replicate::{Characteristics, replicate};
pub use scenario::{Expected, Scenario};
pub use stopping::{Looks, Method, Stopping, stopping};
pub use summary::{Delay, Quantiles, Share};
pub use world::{Behaviour, World};
