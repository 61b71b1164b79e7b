//! What an evaluation found: evidence as JSON, of which every table is a projection.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use understudy_ident::Digest;

/// A baseline and a candidate on the same cases, and a trivial baseline beside them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvalReport {
    pub schema: u32,
    pub suite: String,
    pub suite_digest: Digest,
    pub cases: u64,
    /// Seed of the bootstrap; the same seed gives the same bytes.
    pub seed: u64,
    pub subjects: Vec<SubjectReport>,
    /// Candidate against baseline, one entry per scorer, primary first.
    pub comparisons: Vec<Comparison>,
    pub decision: Decision,
}

impl EvalReport {
    pub const SCHEMA: u32 = 1;
}

/// How one subject did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubjectReport {
    /// `base`, `support-triage@2`, `teacher`, `nearest example`.
    pub name: String,
    pub generation: Option<String>,
    pub scores: BTreeMap<String, ScorerSummary>,
    pub latency_ms_p50: f64,
    pub latency_ms_p95: f64,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    /// Cases the subject failed to answer at all; they score 0.
    pub errors: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScorerSummary {
    pub mean: f64,
    /// 95 % bootstrap interval of the mean.
    pub low: f64,
    pub high: f64,
}

/// The paired difference candidate − baseline for one scorer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Comparison {
    pub scorer: String,
    pub baseline: String,
    pub candidate: String,
    pub difference: f64,
    /// 95 % paired bootstrap interval of the difference.
    pub low: f64,
    pub high: f64,
    pub wins: u64,
    pub losses: u64,
    pub ties: u64,
    /// Exact McNemar on the discordant cases, when all scores are 0 or 1.
    pub mcnemar_p: Option<f64>,
    /// The smallest true difference this many cases would find with probability 0.8.
    pub minimum_detectable: f64,
    pub verdict: Verdict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Better,
    NonInferior,
    Worse,
    Inconclusive,
}

impl Verdict {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::NonInferior => "non_inferior",
            Self::Worse => "worse",
            Self::Inconclusive => "inconclusive",
        }
    }
}

/// Whether the candidate may pass, and every condition with its value and limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    pub passed: bool,
    pub checks: Vec<GateCheck>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateCheck {
    pub name: String,
    pub passed: bool,
    /// A sentence with the numbers.
    pub detail: String,
}
