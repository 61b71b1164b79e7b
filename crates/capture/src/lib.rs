//! How much is kept of what goes through a server: everything, everything without secrets and
//! personal data that patterns find, only what happened and not what was said, or nothing.
//!
//! Guarantees: what a level does not keep is taken out before anything is written; ids, times,
//! models, counts and numbers are the same at every level that keeps them, so that outcomes find
//! their steps and releases their evidence.
//!
//! Never: writes anything, or masks the ids by which things are linked and people are forgotten.

mod levels;
mod masked;
mod unsaid;

use std::{fmt, str::FromStr};

pub use levels::Levels;
use serde::{Deserialize, Serialize};
use understudy_ingest::telemetry::Item;
use understudy_trajectory::{Outcome, Step};

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Capture {
    /// Nothing: nobody can learn from it, or compare by it.
    None,
    /// What happened, without a word of it.
    Metadata,
    /// What was said, with placeholders in place of what patterns find.
    Redacted,
    #[default]
    Full,
}

/// What is kept of telemetry.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct KeptItems {
    pub items: Vec<Item>,
    /// How many are not kept at all.
    pub left_out: usize,
}

impl Capture {
    pub const ALL: [Self; 4] = [Self::None, Self::Metadata, Self::Redacted, Self::Full];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Metadata => "metadata",
            Self::Redacted => "redacted",
            Self::Full => "full",
        }
    }

    /// What is kept of a step.
    pub fn step(self, step: Step) -> Option<Step> {
        match self {
            Self::None => None,
            Self::Metadata => Some(unsaid::step(step)),
            Self::Redacted => Some(masked::step(step)),
            Self::Full => Some(step),
        }
    }

    /// What is kept of what somebody said about one.
    pub fn outcome(self, outcome: Outcome) -> Option<Outcome> {
        match self {
            Self::None => None,
            Self::Metadata => Some(unsaid::outcome(outcome)),
            Self::Redacted => Some(masked::outcome(outcome)),
            Self::Full => Some(outcome),
        }
    }

    /// What is kept of telemetry. A span or an event is mostly words: without them there is nothing
    /// that a step could be made of.
    pub fn items(self, items: Vec<Item>) -> KeptItems {
        let before = items.len();
        let items: Vec<Item> = match self {
            Self::None => Vec::new(),
            Self::Metadata => items.into_iter().filter_map(unsaid::item).collect(),
            Self::Redacted => items.into_iter().map(masked::item).collect(),
            Self::Full => items,
        };
        KeptItems { left_out: before - items.len(), items }
    }
}

impl fmt::Display for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Not one of the levels.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no level of capture; there are none, metadata, redacted and full")]
pub struct NoLevel(String);

impl FromStr for Capture {
    type Err = NoLevel;

    fn from_str(text: &str) -> Result<Self, NoLevel> {
        let known = Self::ALL.into_iter().find(|level| level.as_str() == text);
        known.ok_or_else(|| NoLevel(text.to_owned()))
    }
}

#[cfg(test)]
mod tests;
