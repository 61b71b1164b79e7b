//! The manifest of a frozen dataset version.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use understudy_ident::{DatasetVersion, Digest, TaskName, Timestamp};

use crate::{Data, MemorySlot, digest_json};

/// Names every setting and every stage's counts. Its digest is the version, so it holds nothing that
/// differs between two builds of the same rows: no clock, no path, no host, and not how far the
/// journal went that was read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetManifest {
    pub schema: u32,
    pub task: TaskName,
    /// The version this was made of, without somebody. What was read lies beside the manifest; in
    /// versions of before it is here.
    pub sources: Vec<String>,
    /// The recipe's `[data]` table as resolved. Absent from versions of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Data>,
    /// What the split was drawn by. Absent from versions of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// The policies that the settings name, by version.
    pub reward_policy: String,
    pub redaction: String,
    pub holdout: f64,
    /// The suites whose cases were kept out, by digest.
    pub decontaminated_against: Vec<Digest>,
    /// In order of execution.
    pub stages: Vec<StageCount>,
    pub redacted: BTreeMap<String, u64>,
    /// How much is in both splits, by what it is: zeros. Absent from versions of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leakage: Option<BTreeMap<String, u64>>,
    /// What the caps on one prompt, answer, tool, model and label did, by setting. Absent where none
    /// was set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub balance: BTreeMap<String, Balanced>,
    /// From here on the train split has nothing, because the newest steps were held out. Absent
    /// where none were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<Timestamp>,
    /// How far behaviour agrees with what people said, where enough of both was there: numbers and
    /// their names, as `trajectory` makes them. Absent from versions of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<serde_json::Value>,
    /// Whose lessons a share of the prompts carry. Absent where none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemorySlot>,
    /// When and whose the steps are that the rows were made of. Absent from versions of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub population: Option<Population>,
    /// What counted the tokens of texts, by digest. Absent where no limit is in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<String>,
    pub files: Vec<FileEntry>,
}

impl DatasetManifest {
    pub const SCHEMA: u32 = 1;

    pub fn version(&self) -> DatasetVersion {
        DatasetVersion { name: self.task.clone(), digest: digest_json(self) }
    }

    /// Rows in the file called `path`, 0 when there is none.
    pub fn rows(&self, path: &str) -> u64 {
        self.files.iter().find(|file| file.path == path).map_or(0, |file| file.rows)
    }
}

/// What one cap did. Steps of the commonest prompt, answer, tool or model; of labels, how many say
/// the commoner thing for each that says the rarer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Balanced {
    pub most: f64,
    pub before: f64,
    pub after: f64,
    /// Rows it left out.
    pub rows: u64,
}

/// The steps that the rows were made of, by when and whose they are: what a version can be one-sided
/// in, counted before anybody was erased from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Population {
    /// When the oldest and the newest of them were.
    pub from: Timestamp,
    pub to: Timestamp,
    pub steps: u64,
    pub trajectories: u64,
    pub subjects: u64,
    /// Steps that name no subject.
    pub without_subject: u64,
    pub most_of_one_subject: u64,
    /// Bases, teachers and adapter generations that answered.
    pub models: u64,
    pub most_of_one_model: u64,
    /// Labels that say that a reply was wanted, and that it was not.
    pub wanted: u64,
    pub unwanted: u64,
}

/// What one stage did to the rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageCount {
    pub stage: String,
    pub rows_in: u64,
    pub rows_out: u64,
    /// Why rows went away (or were added), by reason.
    pub reasons: BTreeMap<String, u64>,
}

/// One file of the version: `sft.train.jsonl`, `pairs.dev.jsonl`, …
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    pub path: String,
    pub rows: u64,
    pub bytes: u64,
    pub digest: Digest,
}
