//! What has happened in a run: the only state there is.

use serde::{Deserialize, Serialize};
use understudy_ident::{AdapterVersion, DatasetVersion, Digest, ReleaseId, RunId, Timestamp};
use understudy_manifest::ApprovalStep;

/// One finished step. Facts are only ever added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub enum Fact {
    /// The loop began this run by itself; the first fact of such a run.
    TurnBegan(Turn),
    DatasetFrozen {
        version: DatasetVersion,
        sft_rows: u64,
        pair_rows: u64,
    },
    /// The data were too few, or taught nothing.
    NoDataset {
        why: String,
    },
    /// The same recipe over the same data was tried in this run, and this is what came of it.
    AlreadyTried {
        run: RunId,
        why: String,
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
    /// A person let a step happen.
    Approved {
        step: ApprovalStep,
        owner: String,
        reason: String,
    },
    /// A person ended the run.
    Declined {
        owner: String,
        reason: String,
    },
    /// A step of an unattended run went wrong, and is tried again.
    StepFailed {
        step: String,
        why: String,
    },
}

impl Fact {
    /// As a sentence of the loop's log.
    pub(crate) fn sentence(&self) -> String {
        match self {
            Self::TurnBegan(turn) => {
                format!("turn {} begins, because {}", turn.number, turn.because)
            }
            Self::DatasetFrozen { version, sft_rows, pair_rows } => format!(
                "{sft_rows} examples and {pair_rows} pairs are frozen as {}@{}",
                version.name,
                version.digest.short()
            ),
            Self::NoDataset { why } => format!("there is no dataset to train on: {why}"),
            Self::AlreadyTried { run, why } => {
                format!("the dataset is the one of {run}: {why}")
            }
            Self::StageTrained(trained) => format!(
                "{} has trained for {:.0} s and scores {:.3} on {} dev cases",
                trained.method, trained.seconds, trained.dev_score, trained.dev_cases
            ),
            Self::StageSkipped { stage, why } => format!("stage {} is left out: {why}", stage + 1),
            Self::Selected { why, .. } => format!("the best stage is chosen: {why}"),
            Self::Registered { version, generation } => {
                format!("the candidate is {version}, generation {}", generation.short())
            }
            Self::Evaluated { passed: true, summary } => {
                format!("the gate lets it pass: {summary}")
            }
            Self::Evaluated { passed: false, summary } => format!("the gate refuses it: {summary}"),
            Self::ReleaseStarted { release } => format!("release {release} has started"),
            Self::ReleaseEnded { why, .. } => format!("the release has ended: {why}"),
            Self::Approved { step, owner, reason } => format!("{owner} lets it {step}: {reason}"),
            Self::Declined { owner, reason } => format!("{owner} declines: {reason}"),
            Self::StepFailed { step, why } => format!("{step} failed: {why}"),
        }
    }
}

/// What the loop knew when it began a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Counted from 1, per task.
    pub number: u64,
    /// The last journal record that the dataset may read, so that building it again after a crash
    /// gives the same one.
    pub until: u64,
    pub at: Timestamp,
    /// As half a sentence.
    pub because: String,
    /// Who served.
    pub serving: Option<String>,
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

/// The turn a run is, when the loop began it.
pub fn turn_of(facts: &[Fact]) -> Option<&Turn> {
    match facts.first() {
        Some(Fact::TurnBegan(turn)) => Some(turn),
        _ => None,
    }
}
