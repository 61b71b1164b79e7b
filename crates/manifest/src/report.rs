//! What an evaluation found: evidence as JSON, of which every table is a projection.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use understudy_ident::Digest;

use crate::Tier;

/// A baseline and a candidate on the same cases, and a trivial baseline beside them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvalReport {
    pub schema: u32,
    pub suite: String,
    pub suite_digest: Digest,
    pub cases: u64,
    #[serde(default = "sealed")]
    pub tier: Tier,
    /// How often this version of the suite was asked to decide, this time included; none where
    /// nobody counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consultation: Option<u64>,
    /// Seed of the bootstrap; the same seed gives the same bytes.
    pub seed: u64,
    pub subjects: Vec<SubjectReport>,
    /// Candidate against baseline, one entry per scorer, primary first.
    pub comparisons: Vec<Comparison>,
    /// The primary scorer again, on the cases of one tag or one risk.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slices: Vec<Slice>,
    /// What the reader has to know about the evidence: a row that is missing, and how to get it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What another model thinks of the two, beside the scorers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<JudgeReport>,
    pub decision: Decision,
}

impl EvalReport {
    pub const SCHEMA: u32 = 1;
}

/// Reports from before tiers were told are treated with the most care.
fn sealed() -> Tier {
    Tier::Sealed
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
    /// Per scorer, the cases it could not decide; they are in no mean.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unscored: BTreeMap<String, u64>,
    /// Answers with a tool call that could not be read.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub invalid_calls: u64,
    /// Of the cases tagged `must_refuse`, those that were refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Tally>,
    /// What all answers cost, in millionths of a dollar, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<u64>,
    /// None for answers that were given elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Conditions>,
    /// Where every case was put more than once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<Attempts>,
}

/// Several attempts at every case, sampled, under the primary scorer. An attempt passes with a full
/// score; one that failed or could not be scored does not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attempts {
    /// At each case.
    pub each: u64,
    /// The chance that at least one of so many attempts passes: pass@k.
    pub any: BTreeMap<u64, ScorerSummary>,
    /// The chance that all of so many attempts pass: pass^k.
    pub all: BTreeMap<u64, ScorerSummary>,
}

/// What a subject answered under, beside its adapter.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conditions {
    /// Digest of base, tokenizer and template, how they are held, the device and the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<Digest>,
    /// What it ran on: `cpu`, `cuda:0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Version of the program that asked.
    pub program: String,
    pub max_new_tokens: u32,
    /// 0 is greedy.
    pub temperature: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryUse>,
}

/// The lessons that a subject was shown, and what they took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryUse {
    pub release: Digest,
    /// Cases that had a lesson.
    pub cases: u64,
    /// Of the longest block, and what it may take.
    pub tokens_max: u64,
    pub tokens_limit: u64,
    /// How long looking for lessons took, and after how long a server goes on without.
    pub retrieval_ms_p95: f64,
    pub retrieval_ms_limit: f64,
}

/// So many of so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tally {
    pub met: u64,
    pub of: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
pub(crate) fn is_zero(count: &u64) -> bool {
    *count == 0
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
    /// Its mid-p variant, which is less conservative.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mcnemar_mid_p: Option<f64>,
    /// Paired permutation test, where McNemar's cannot speak: graded scores, or clusters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permutation_p: Option<f64>,
    /// The smallest true difference this many cases would find with probability 0.8.
    pub minimum_detectable: f64,
    pub verdict: Verdict,
    /// Of the cases the baseline gets right, those the candidate does not: `broken / passed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regressions: Option<Tally>,
    /// Of the cases the baseline gets wrong, those the candidate gets right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixes: Option<Tally>,
    /// Cases that the scorer could not decide for one of the two, and that are left out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unscored: u64,
}

/// A model's preference between the candidate's and the baseline's answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JudgeReport {
    pub model: String,
    /// Of model, rubric and the words it is asked with.
    pub judge: Digest,
    /// Share of cases won minus share lost. A case is won only if the judge says so in both orders.
    pub comparison: Comparison,
    /// Cases on which it said different things in the two orders, or nothing readable. They count
    /// as ties.
    pub undecided: u64,
    /// Cases it could not be asked about; they count as nothing.
    pub errors: u64,
    /// Of the pairs it judged readably in both orders, those it judged differently.
    pub flips: Tally,
    /// Of the times it preferred one of two, those it preferred the first it was shown.
    pub first_preferred: Tally,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    /// In millionths of a dollar, of all judgements here, also those kept from before; none where no
    /// price is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
}

impl JudgeReport {
    /// Whether it may not take part in a decision: nobody has shown that it agrees with people.
    pub fn is_advisory(&self) -> bool {
        !self.calibration.as_ref().is_some_and(Calibration::suffices)
    }
}

/// How far a judge agrees with people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Of which judge: another rubric makes another one.
    pub judge: Digest,
    /// Pairs that a person had labelled.
    pub labels: u64,
    /// Digest of them.
    pub labelled: Digest,
    /// Share of pairs on which both say the same; where the judge is undecided, they do not.
    pub agreement: f64,
    /// Cohen's kappa: agreement beyond what their habits alone would give.
    pub kappa: f64,
    pub undecided: u64,
    pub flips: Tally,
    pub first_preferred: Tally,
    /// Pearson correlation of the preference for an answer and how much longer it is; none where
    /// one of the two never varies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length_correlation: Option<f64>,
}

impl Calibration {
    pub const LABELS_MIN: u64 = 50;
    /// "Substantial" agreement, after Landis and Koch (1977).
    pub const KAPPA_MIN: f64 = 0.6;

    /// Whether the judge may take part in a decision.
    pub fn suffices(&self) -> bool {
        self.labels >= Self::LABELS_MIN && self.kappa >= Self::KAPPA_MIN
    }
}

/// Some of the cases under the primary scorer, candidate − baseline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slice {
    /// `tag:billing`, `risk:high_risk`.
    pub name: String,
    pub cases: u64,
    pub difference: f64,
    /// 95 % paired bootstrap interval of the difference.
    pub low: f64,
    pub high: f64,
    pub wins: u64,
    pub losses: u64,
    /// Cases the baseline gets wrong and the candidate right.
    pub fixed: u64,
    /// McNemar's exact test, or the paired permutation test where scores are graded or cases come in
    /// clusters; two-sided, corrected after Holm over the slices of the report.
    pub p_holm: f64,
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
