//! Why a case cannot be scored at all.

/// What a case expects is not what its scorer reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScorerError {
    #[error("the expected answer is not JSON ({0}); correct the case or the suite's scorers")]
    NotJson(String),
    #[error("the expected answer holds no number; correct the case or use another scorer")]
    NoNumber,
    #[error("the expected answer is not a JSON list of texts ({0}); write [\"one\", \"other\"]")]
    NotTexts(String),
    #[error("failed to read the pattern: {0}")]
    Pattern(String),
    #[error("failed to read the JSON Schema: {0}; it must be complete in itself")]
    Schema(String),
    #[error("failed to read the expected tool calls: {0}")]
    Calls(String),
    #[error("failed to read the expected trajectory: {0}")]
    Trajectory(String),
    #[error("failed to read the expected state: {0}")]
    State(String),
    #[error("the case has no checks; give it some or use another scorer")]
    NoChecks,
    #[error("a check may not be `checks` itself; list its parts instead")]
    NestedChecks,
    #[error("the suite has no rubric `{0}`; give it under `rubrics` in the suite's first line")]
    NoRubric(String),
    #[error("the expected text is empty, and `judge` needs a statement there that should hold")]
    NoStatement,
    #[error("a check weighs {0}; a weight is a number above 0")]
    Weight(String),
}
