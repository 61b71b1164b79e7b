//! Why a simulation cannot start.

use understudy_router::RouterError;

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SimulationError {
    #[error("cannot simulate this policy: {0}")]
    Policy(#[from] RouterError),
    #[error("{text:?} is no scenario; there are {known}")]
    Scenario { text: String, known: String },
    #[error("cannot simulate with {field} {value}: give {expected}")]
    Setting { field: &'static str, value: f64, expected: &'static str },
}
