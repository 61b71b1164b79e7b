//! Why an evaluation cannot be evidence. A single failed answer is not one of these: it scores 0.

use understudy_inference::InferenceError;
use understudy_scorer::ScorerError;

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EvaluationError {
    #[error("cannot evaluate on suite `{suite}`: it has no cases; add some")]
    NoCases { suite: String },
    #[error("cannot evaluate `{subject}`: concurrency must be at least 1")]
    NoConcurrency { subject: String },
    #[error("cannot score case `{case}` of suite `{suite}` with `{scorer}`")]
    Expected { suite: String, case: String, scorer: String, source: ScorerError },
    #[error(
        "cannot compute `{scorer}` of suite `{suite}` for `{subject}`, which it would leave unscored: it needs {lacks}"
    )]
    Uncomputable { suite: String, scorer: String, subject: String, lacks: &'static str },
    #[error("cannot read line {line} of the recorded answers: {why}")]
    Recorded { line: usize, why: String },
    #[error(
        "cannot take the recorded answers of `{subject}`: case `{case}` {what}; record every case of the suite once, or all but 2 %"
    )]
    RecordedCases { subject: String, case: String, what: &'static str },
    #[error("cannot read line {line} of the labelled pairs: {why}")]
    Label { line: usize, why: String },
    #[error(
        "cannot calibrate the judge on {labels} labels of which it judged {judged}; give at least one label, and run it again when the judge answers"
    )]
    Calibration { labels: usize, judged: u64 },
    #[error("cannot let `{name}` judge its own answers; name another model as the judge")]
    JudgeIsSubject { name: String },
    #[error("cannot ask the judge `{model}`: its first replies all failed, the last with: {why}")]
    JudgeFails { model: String, why: String },
    /// The judge cannot be asked at all.
    #[error(
        "cannot ask the judge `{model}`: it refuses every request; what it said so far is kept"
    )]
    Judge { model: String, source: InferenceError },
    #[error("cannot tell subjects apart: two are called `{name}`; rename one")]
    DuplicateSubject { name: String },
    /// The backend cannot serve this subject at all, so its answers would say nothing about it.
    #[error("cannot evaluate `{subject}`: the backend refuses every request for it")]
    Backend { subject: String, source: InferenceError },
    #[error(
        "cannot trust the answers of `{subject}`: adapter `{expected}` was asked, but {served} answered; reload the adapter and evaluate again"
    )]
    WrongAdapter { subject: String, expected: String, served: String },
    #[error(
        "cannot trust the answers of `{subject}`: its adapter changed from {first} to {then} during the run; evaluate again while nobody replaces it"
    )]
    GenerationChanged { subject: String, first: String, then: String },
    #[error(
        "cannot compare `{subject}`: its results do not cover the cases of suite `{suite}` in order (at position {position}: expected `{expected}`, found `{found}`); run it on this suite"
    )]
    Misaligned { subject: String, suite: String, position: usize, expected: String, found: String },
}
