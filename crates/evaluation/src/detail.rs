//! What became of each case, for suites that may be looked at.

use serde::Serialize;
use understudy_manifest::{Gate, Risk, Scorer, Suite, Tier};
use understudy_message::ToolCall;
use understudy_scorer::Outcome;

use crate::{
    EvaluationError, Evidence,
    grade::{Graded, Graders},
    report::scorers,
};

/// One case, with what the two subjects said to it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CaseDiff {
    pub id: String,
    pub tags: Vec<String>,
    pub risk: Risk,
    /// The prompt as text, one message a paragraph.
    pub prompt: String,
    pub expected: String,
    pub change: Change,
    pub baseline: Reply,
    pub candidate: Reply,
}

/// How the candidate's primary score relates to the baseline's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    Loss,
    Win,
    Tie,
    /// The primary scorer could not decide for one of the two.
    Unscored,
}

/// What one subject said.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reply {
    pub output: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<ToolCall>,
    /// Under the primary scorer; none if that could not decide.
    pub score: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unscored: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Change {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::Win => "win",
            Self::Tie => "tie",
            Self::Unscored => "unscored",
        }
    }
}

/// Every case under the primary scorer, in the suite's order; nothing of a sealed suite.
///
/// The evidence must have passed [`assemble`](crate::assemble), which checks that it covers the
/// suite.
pub fn details(
    suite: &Suite,
    gate: &Gate,
    evidence: Evidence<'_>,
) -> Result<Vec<CaseDiff>, EvaluationError> {
    if suite.tier == Tier::Sealed {
        return Ok(Vec::new());
    }
    let primary: Vec<Scorer> = scorers(suite, gate).into_iter().take(1).collect();
    let graders = Graders::new(suite, &primary)?;
    let baseline = evidence.grade(&graders, evidence.baseline);
    let candidate = evidence.grade(&graders, evidence.candidate);
    let diff = |(nth, case): (usize, &understudy_manifest::Case)| {
        let (baseline, candidate) = (reply(&baseline, nth)?, reply(&candidate, nth)?);
        let prompt: Vec<String> = case
            .prompt
            .iter()
            .map(|message| format!("{}: {}", message.role.as_str(), message.text()))
            .collect();
        Some(CaseDiff {
            id: case.id.clone(),
            tags: case.tags.clone(),
            risk: case.risk,
            prompt: prompt.join("\n\n"),
            expected: case.expected.clone(),
            change: change(baseline.score, candidate.score),
            baseline,
            candidate,
        })
    };
    Ok(suite.cases.iter().enumerate().filter_map(diff).collect())
}

fn reply(graded: &Graded<'_>, nth: usize) -> Option<Reply> {
    let (result, outcome) = (graded.run.results.get(nth)?, graded.outcomes.first()?.get(nth)?);
    Some(Reply {
        output: result.output.clone(),
        calls: result.calls.clone(),
        score: outcome.score().map(|score| score.value),
        unscored: match outcome {
            Outcome::Scored(_) => None,
            Outcome::Unscored(why) => Some(why.clone()),
        },
        error: result.error.clone(),
    })
}

fn change(baseline: Option<f64>, candidate: Option<f64>) -> Change {
    match (baseline, candidate) {
        (Some(before), Some(after)) if after > before => Change::Win,
        (Some(before), Some(after)) if after < before => Change::Loss,
        (Some(_), Some(_)) => Change::Tie,
        _ => Change::Unscored,
    }
}
