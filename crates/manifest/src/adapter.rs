//! `manifest.json` beside a PEFT adapter: the exact bytes it saw.

use serde::{Deserialize, Serialize};
use understudy_ident::{DatasetVersion, Digest, RunId};

/// Full lineage of an adapter. Rebuilding from these gives, on the same device, the same weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdapterManifest {
    pub schema: u32,
    pub task: String,
    pub base: String,
    pub base_digest: String,
    pub tokenizer_digest: String,
    pub template_digest: String,
    pub recipe_digest: Digest,
    pub dataset: DatasetLineage,
    /// The adapter training continued from; `None` when it started fresh.
    pub parent: Option<Digest>,
    /// In order; the adapter is what the last one left.
    pub stages: Vec<StageLineage>,
    /// Version of this program.
    pub code_version: String,
    pub device: String,
    pub threads: usize,
    pub run: Option<RunId>,
    /// Absent in adapters written before there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attestation: Option<crate::Attestation>,
}

impl AdapterManifest {
    pub const SCHEMA: u32 = 1;
    pub const FILE: &'static str = "manifest.json";
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetLineage {
    pub version: DatasetVersion,
    pub sft_rows: u64,
    pub pair_rows: u64,
}

/// One training stage with every setting resolved (no "default") and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageLineage {
    pub settings: crate::TrainStage,
    pub lora: crate::Lora,
    pub steps: u64,
    pub examples: u64,
    pub tokens: u64,
    pub first_loss: f64,
    pub last_loss: f64,
    pub skipped_steps: u64,
    pub seconds: f64,
    pub peak_memory_bytes: u64,
    /// Examples that were given but too long, or without a difference to learn.
    #[serde(default)]
    pub left_out: u64,
    /// Attempts that were sampled while training.
    #[serde(default)]
    pub attempts: u64,
    /// Why the stage ended before its last step, when it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    /// What the checks of the run's health said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Trained by policy gradient on replies whose sampling distribution is unknown, because the
    /// recipe insisted: the gradient is biased.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub offpolicy_unsound: bool,
}
