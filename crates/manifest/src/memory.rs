//! What is known of a memory release outside the memory: which lessons, and never a word of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use understudy_ident::Digest;

/// A memory release as the registry keeps it. Whoever may read releases learns digests from it;
/// the lessons lie with the memory, where they can be forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryManifest {
    pub schema: u32,
    pub kind: MemoryKind,
    pub tenant: String,
    /// Names the content: lessons, how they are found and how they are shown.
    pub release: Digest,
    /// Every lesson by its id, with its revision's digest.
    pub lessons: BTreeMap<String, Digest>,
    pub embedder: String,
    pub renderer: String,
    /// The release it was cut after.
    pub parent: Option<Digest>,
}

/// Tells this manifest from an adapter's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemoryKind {
    Memory,
}

impl MemoryManifest {
    pub const SCHEMA: u32 = 1;
}

/// The lessons that a share of a dataset's prompts carry, so that a model learns to read them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemorySlot {
    /// The recipe's `memory_slot`.
    pub share: f64,
    /// The memory release that was retrieved from.
    pub release: Digest,
    /// Rows of all files, by what became of them: `shown`, `nothing_fits`, `shown_before`.
    pub rows: BTreeMap<String, u64>,
}
