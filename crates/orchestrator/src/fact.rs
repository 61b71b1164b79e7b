//! What has happened in a run: the only state there is.

use serde::{Deserialize, Serialize};
use understudy_ident::{AdapterVersion, DatasetVersion, Digest, ReleaseId};

/// One finished step. Facts are only ever added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub enum Fact {
    DatasetFrozen {
        version: DatasetVersion,
        sft_rows: u64,
        pair_rows: u64,
    },
    StageTrained(Trained),
    /// A stage had nothing to train on: no pairs, say.
    StageSkipped {
        stage: usize,
        why: String,
    },
    /// Which stage's adapter is kept, and why in words.
    Selected {
        stage: usize,
        why: String,
    },
    Registered {
        version: AdapterVersion,
        generation: Digest,
    },
    Evaluated {
        passed: bool,
        summary: String,
    },
    ReleaseStarted {
        release: ReleaseId,
    },
    ReleaseEnded {
        end: ReleaseEnd,
        why: String,
    },
}

/// What a training stage left behind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trained {
    /// Index in the recipe, from 0.
    pub stage: usize,
    pub method: String,
    /// The PEFT directory.
    pub directory: String,
    pub last_loss: f64,
    /// Mean of the primary scorer on the dev split, in [0, 1].
    pub dev_score: f64,
    pub dev_cases: u64,
    pub seconds: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReleaseEnd {
    Promoted,
    RolledBack,
    Inconclusive,
}
