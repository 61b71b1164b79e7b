//! How a release came out, and how it should have.

use std::fmt;

use serde::{Deserialize, Serialize};
use understudy_manifest::Guard;
use understudy_registry::PauseReason;
use understudy_simulation::Scenario;

/// What became of the candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Ending {
    Promoted,
    /// Because of this guard; none where its replicas left it alone for failing.
    RolledBack {
        guard: Option<Guard>,
    },
    /// A person is to decide.
    Paused {
        because: PauseReason,
    },
    /// Still on the ramp when the sessions were spent.
    Held,
}

impl Ending {
    /// Whether a good policy may end like this in that world. Harmless candidates may also wait:
    /// what counts against a policy is to take one off.
    pub fn is_right_for(self, scenario: Scenario) -> bool {
        let rolled_back = |guard| self == Self::RolledBack { guard };
        let paused = |because| self == Self::Paused { because };
        match scenario {
            Scenario::Identical
            | Scenario::Drifting
            | Scenario::Clustered
            | Scenario::RareEvents
            | Scenario::Better => self.spares(),
            Scenario::AtMargin => self != Self::Promoted,
            Scenario::TenPointsWorse => rolled_back(Some(Guard::Reward)),
            Scenario::FivePercentErrors => rolled_back(Some(Guard::Errors)),
            Scenario::HalfAgainSlower => rolled_back(Some(Guard::Latency)),
            Scenario::Unsafe => rolled_back(Some(Guard::Safety)),
            Scenario::Costlier => rolled_back(Some(Guard::Cost)),
            Scenario::LostUnits | Scenario::MissingRewards => paused(PauseReason::Invalid),
            Scenario::DeadReplica => rolled_back(None),
            Scenario::SilentTeacher => paused(PauseReason::LowTraffic),
        }
    }

    /// Promoted, or left to go on.
    pub fn spares(self) -> bool {
        let undecided = Self::Paused { because: PauseReason::Inconclusive };
        self == Self::Promoted || self == Self::Held || self == undecided
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Promoted => f.write_str("promoted"),
            Self::RolledBack { guard: Some(guard) } => write!(f, "rolled back because of {guard}"),
            Self::RolledBack { guard: None } => f.write_str("rolled back because of its replicas"),
            Self::Paused { because: PauseReason::Invalid } => {
                f.write_str("paused: the comparison is not valid")
            }
            Self::Paused { because: PauseReason::LowTraffic } => {
                f.write_str("paused: no reward comes any more")
            }
            Self::Paused { because: PauseReason::Inconclusive } => {
                f.write_str("paused: inconclusive")
            }
            Self::Paused { because } => write!(f, "paused: {because:?}"),
            Self::Held => f.write_str("held"),
        }
    }
}
