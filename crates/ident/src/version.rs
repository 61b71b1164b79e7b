//! Versions of the two things a stage hands on: adapters are counted, datasets are digested.

use std::{fmt, num::NonZeroU32, str::FromStr};

use crate::{Digest, IdentError, TaskName, text::wire_text};

/// `support-triage@3`: the third adapter registered for a task.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AdapterVersion {
    pub task: TaskName,
    pub number: NonZeroU32,
}

impl FromStr for AdapterVersion {
    type Err = IdentError;

    fn from_str(text: &str) -> Result<Self, IdentError> {
        let wrong = || IdentError::AdapterVersion { text: text.to_owned() };
        let (task, number) = text.split_once('@').ok_or_else(wrong)?;
        // "+1" and "01" parse as numbers, but only one spelling may name a version.
        let number: NonZeroU32 = number.parse().map_err(|_| wrong())?;
        let version = Self { task: task.parse().map_err(|_| wrong())?, number };
        if version.to_string() == text { Ok(version) } else { Err(wrong()) }
    }
}

impl fmt::Display for AdapterVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.task, self.number)
    }
}

/// `support-triage@9f2c…`: a frozen dataset, named by the digest of its manifest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DatasetVersion {
    pub name: TaskName,
    pub digest: Digest,
}

impl FromStr for DatasetVersion {
    type Err = IdentError;

    fn from_str(text: &str) -> Result<Self, IdentError> {
        let wrong = || IdentError::DatasetVersion { text: text.to_owned() };
        let (name, digest) = text.split_once('@').ok_or_else(wrong)?;
        Ok(Self {
            name: name.parse().map_err(|_| wrong())?,
            digest: digest.parse().map_err(|_| wrong())?,
        })
    }
}

impl fmt::Display for DatasetVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.digest)
    }
}

wire_text!(AdapterVersion);
wire_text!(DatasetVersion);
