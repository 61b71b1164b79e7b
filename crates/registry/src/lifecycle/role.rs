//! In what capacity somebody acts.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::RegistryError;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Trains, registers and evaluates.
    Engineer,
    /// Approves, starts, promotes, freezes.
    ReleaseManager,
    /// Takes off what misbehaves, at any hour.
    OnCall,
    /// May answer for going on without a report, without approvals or in a freeze.
    Override,
    /// The program itself, acting on evidence; no person has this role.
    Controller,
}

impl Role {
    pub const ALL: [Self; 5] =
        [Self::Engineer, Self::ReleaseManager, Self::OnCall, Self::Override, Self::Controller];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Engineer => "engineer",
            Self::ReleaseManager => "release_manager",
            Self::OnCall => "on_call",
            Self::Override => "override",
            Self::Controller => "controller",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = RegistryError;

    fn from_str(text: &str) -> Result<Self, RegistryError> {
        let name = text.replace('-', "_");
        let known = Self::ALL.into_iter().find(|role| role.as_str() == name);
        let of_person = known.filter(|role| *role != Self::Controller);
        of_person.ok_or_else(|| RegistryError::UnknownRole { text: text.to_owned() })
    }
}
