//! Adapters as those who load them see them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use understudy_ident::Timestamp;

/// One alias and what it points at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AdapterInfo {
    pub alias: String,
    /// Digest of the content the alias means now.
    pub generation: String,
    pub rank: usize,
    pub bytes: u64,
    pub directory: String,
    /// Whether its weights are in memory; one that is not is read when it is next asked for.
    pub resident: bool,
    /// Never leaves memory to make room.
    pub pinned: bool,
    /// When the alias is forgotten.
    pub expires: Option<Timestamp>,
    /// Requests holding the current generation.
    pub leases: usize,
    /// Earlier generations still in memory, the most recent first: what a rollback can reach.
    pub previous: Vec<String>,
}

/// A PEFT directory to be put under an alias.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadAdapter {
    pub alias: String,
    pub directory: PathBuf,
    /// What the alias must mean for the load to go through.
    pub expected: Expected,
    /// The digest the content must have.
    pub generation: Option<String>,
    pub pinned: bool,
    /// When the alias is forgotten, unless it is loaded again before; `None` is never.
    pub expires: Option<Timestamp>,
    /// How many earlier generations stay in memory for a rollback; `None` is the backend's default.
    pub keep_previous: Option<usize>,
    /// Only note where it is; it is read when it is first asked for.
    pub on_demand: bool,
}

impl LoadAdapter {
    /// Puts it there, whatever was there before.
    pub fn new(alias: impl Into<String>, directory: impl Into<PathBuf>) -> Self {
        Self {
            alias: alias.into(),
            directory: directory.into(),
            expected: Expected::Anything,
            generation: None,
            pinned: false,
            expires: None,
            keep_previous: None,
            on_demand: false,
        }
    }
}

/// The condition of a compare-and-swap on an alias.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Expected {
    #[default]
    Anything,
    /// The alias must be free.
    Nothing,
    /// The alias must mean this generation.
    Generation(String),
}

/// What a load did.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadedAdapter {
    pub adapter: AdapterInfo,
    /// The generation the alias meant before, if it was another.
    pub replaced: Option<String>,
    pub timing: LoadTiming,
}

/// Where the time of a load went, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct LoadTiming {
    /// Reading and hashing the files.
    pub read: f64,
    /// Shapes, finiteness, lineage and probe prompts.
    pub verify: f64,
    /// Pointing the alias at it: the only part other requests could notice.
    pub publish: f64,
}
