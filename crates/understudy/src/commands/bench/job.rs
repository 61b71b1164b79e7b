//! One measurement, as the process that makes it reads it, and what that process answers.

use std::{fmt, path::PathBuf};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use understudy_model::Precision;

use super::{floor::Floor, profile::Profile};

/// One configuration to measure.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) base: PathBuf,
    /// The file with the token ids, see [`super::work::Work`].
    pub(super) work: PathBuf,
    #[serde(rename = "what")]
    pub(super) step: Step,
    #[serde(rename = "peer")]
    pub(super) program: Program,
    pub(super) dtype: Dtype,
    pub(super) threads: usize,
    /// Measured steps; one more warms up.
    pub(super) steps: usize,
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.step.as_str(), self.program.as_str(), self.dtype.as_str())
    }
}

/// Which step is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Step {
    Sft,
    Dpo,
    Grpo,
}

impl Step {
    pub(super) const ALL: [Self; 3] = [Self::Sft, Self::Dpo, Self::Grpo];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Sft => "sft",
            Self::Dpo => "dpo",
            Self::Grpo => "grpo",
        }
    }
}

/// Who takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Program {
    Understudy,
    Torch,
    Trl,
}

impl Program {
    pub(super) const ALL: [Self; 3] = [Self::Understudy, Self::Torch, Self::Trl];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Understudy => "understudy",
            Self::Torch => "torch",
            Self::Trl => "trl",
        }
    }
}

/// What the frozen base is held in. Adapters are f32 on every side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Dtype {
    Bfloat16,
    Float32,
}

impl Dtype {
    pub(super) const ALL: [Self; 2] = [Self::Bfloat16, Self::Float32];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Bfloat16 => "bf16",
            Self::Float32 => "f32",
        }
    }

    pub(super) fn precision(self) -> Precision {
        match self {
            Self::Bfloat16 => Precision::Bf16,
            Self::Float32 => Precision::F32,
        }
    }
}

/// What a measuring process prints on its last line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Measured {
    /// Wall time of every measured step.
    pub(super) seconds: Vec<f64>,
    /// Processor time of the same steps over all threads.
    pub(super) cpu_seconds: Vec<f64>,
    /// Of one step: what the objective is about, however much of it runs through the model once.
    pub(super) tokens: u64,
    pub(super) peak_rss_bytes: u64,
    /// What must be known to read the figure.
    #[serde(default)]
    pub(super) note: Option<String>,
    #[serde(default)]
    pub(super) floor: Option<Floor>,
    #[serde(default)]
    pub(super) profile: Option<Profile>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_what_the_peer_script_reads() {
        let job = Job {
            base: "base.gguf".into(),
            work: "work.json".into(),
            step: Step::Grpo,
            program: Program::Trl,
            dtype: Dtype::Bfloat16,
            threads: 2,
            steps: 5,
        };
        let value = serde_json::to_value(&job).unwrap();
        let read = ["what", "peer", "dtype"].map(|key| value[key].as_str().unwrap());
        assert_eq!(read, ["grpo", "trl", "bfloat16"]);
        assert_eq!(job.to_string(), "grpo trl bf16");
    }
}
