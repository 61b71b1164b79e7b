//! Worlds worth knowing a policy's answer to, by name.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use understudy_manifest::Guard;
use understudy_router::Policy;

use crate::{Behaviour, SimulationError, World};

/// A named world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    Identical,
    Drifting,
    Clustered,
    RareEvents,
    Better,
    AtMargin,
    TenPointsWorse,
    FivePercentErrors,
    HalfAgainSlower,
    Unsafe,
    Costlier,
    LostUnits,
    MissingRewards,
    DeadReplica,
    SilentTeacher,
}

/// What a good policy does in a scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "guard")]
pub enum Expected {
    /// Promotes in the end; every rollback is a false one.
    Promotion,
    /// Rolls back because of this guard.
    Rollback(Guard),
    /// Stops, whichever way, and never promotes.
    NoPromotion,
}

impl Scenario {
    pub const ALL: [Self; 15] = [
        Self::Identical,
        Self::Drifting,
        Self::Clustered,
        Self::RareEvents,
        Self::Better,
        Self::AtMargin,
        Self::TenPointsWorse,
        Self::FivePercentErrors,
        Self::HalfAgainSlower,
        Self::Unsafe,
        Self::Costlier,
        Self::LostUnits,
        Self::MissingRewards,
        Self::DeadReplica,
        Self::SilentTeacher,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Identical => "identical",
            Self::Drifting => "drifting",
            Self::Clustered => "clustered",
            Self::RareEvents => "rare-events",
            Self::Better => "better",
            Self::AtMargin => "at-margin",
            Self::TenPointsWorse => "ten-points-worse",
            Self::FivePercentErrors => "five-percent-errors",
            Self::HalfAgainSlower => "half-again-slower",
            Self::Unsafe => "unsafe",
            Self::Costlier => "costlier",
            Self::LostUnits => "lost-units",
            Self::MissingRewards => "missing-rewards",
            Self::DeadReplica => "dead-replica",
            Self::SilentTeacher => "silent-teacher",
        }
    }

    /// What is true there, in a sentence.
    pub fn about(self) -> &'static str {
        match self {
            Self::Identical => "both arms are the same",
            Self::Drifting => "both arms are the same, and traffic gets twenty points harder",
            Self::Clustered => "both arms are the same; a unit's twenty requests are alike",
            Self::RareEvents => "both arms are the same, and rarely fail",
            Self::Better => "the canary succeeds ten points more often",
            Self::AtMargin => "the canary is worse by exactly the margin",
            Self::TenPointsWorse => "the canary succeeds ten points less often",
            Self::FivePercentErrors => "one in twenty canary units ends in an error",
            Self::HalfAgainSlower => "the canary takes half as long again",
            Self::Unsafe => "one in fifty canary outputs is unsafe",
            Self::Costlier => "the canary costs half as much again",
            Self::LostUnits => "three in ten canary units are never recorded",
            Self::MissingRewards => "every fourth canary reward goes missing",
            Self::DeadReplica => "one of the canary's four replicas fails everything",
            Self::SilentTeacher => "after five hundred arrivals no reward comes any more",
        }
    }

    /// The world, around a stable arm that behaves like this.
    pub fn world(self, policy: &Policy, stable: Behaviour) -> World {
        let same = World::alike(stable);
        let canary = |canary: Behaviour| World { canary, ..same };
        let success = |by: f64| {
            canary(Behaviour { success: (stable.success + by).clamp(0.0, 1.0), ..stable })
        };
        match self {
            Self::Identical => same,
            Self::Drifting => World { drift: 0.2, drift_arrivals: 20_000, ..same },
            Self::Clustered => World { requests_per_unit: 20, spread: 1.5, ..same },
            Self::RareEvents => World::alike(Behaviour { success: 0.98, errors: 0.002, ..stable }),
            Self::Better => success(0.1),
            Self::AtMargin => success(-policy.margin.at(stable.success)),
            Self::TenPointsWorse => success(-0.1),
            Self::FivePercentErrors => canary(Behaviour { errors: 0.05, ..stable }),
            Self::HalfAgainSlower => {
                canary(Behaviour { slowness: stable.slowness * 1.5, ..stable })
            }
            Self::Unsafe => canary(Behaviour { unsafe_outputs: 0.02, ..stable }),
            Self::Costlier => canary(Behaviour { cost: stable.cost * 1.5, ..stable }),
            Self::LostUnits => canary(Behaviour { lost: 0.3, ..stable }),
            Self::MissingRewards => canary(Behaviour { missing: 0.25, ..stable }),
            Self::DeadReplica => canary(Behaviour { errors: 0.25, ..stable }),
            Self::SilentTeacher => World { silent_from: Some(500), ..same },
        }
    }

    pub fn expected(self) -> Expected {
        match self {
            Self::Identical
            | Self::Drifting
            | Self::Clustered
            | Self::RareEvents
            | Self::Better => Expected::Promotion,
            Self::TenPointsWorse => Expected::Rollback(Guard::Reward),
            Self::FivePercentErrors | Self::DeadReplica => Expected::Rollback(Guard::Errors),
            Self::HalfAgainSlower => Expected::Rollback(Guard::Latency),
            Self::Unsafe => Expected::Rollback(Guard::Safety),
            Self::Costlier => Expected::Rollback(Guard::Cost),
            Self::AtMargin | Self::LostUnits | Self::MissingRewards | Self::SilentTeacher => {
                Expected::NoPromotion
            }
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scenario {
    type Err = SimulationError;

    fn from_str(text: &str) -> Result<Self, SimulationError> {
        Self::ALL.into_iter().find(|scenario| scenario.as_str() == text).ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str).join(", ");
            SimulationError::Scenario { text: text.to_owned(), known }
        })
    }
}
