//! Answers that were given before, one a line: `{"id": "0001", "output": "…", "latency_ms": 12.5}`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use understudy_inference::Usage;
use understudy_manifest::{Suite, canonical_json};
use understudy_message::ToolCall;

use crate::{
    EvaluationError,
    run::{CaseResult, SubjectRun},
};

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: String,
    #[serde(default)]
    output: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolCall>,
    /// Not measured if 0.
    #[serde(default)]
    latency_ms: f64,
    #[serde(default)]
    prompt_tokens: u32,
    #[serde(default)]
    completion_tokens: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Reads the answers of one subject, in any order; every case of the suite needs exactly one.
pub fn read_recorded(
    subject: &str,
    suite: &Suite,
    text: &str,
) -> Result<SubjectRun, EvaluationError> {
    let wrong = |case: &str, what| EvaluationError::RecordedCases {
        subject: subject.to_owned(),
        case: case.to_owned(),
        what,
    };
    let mut found: BTreeMap<String, CaseResult> = BTreeMap::new();
    for (nth, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let line: Line = serde_json::from_str(line)
            .map_err(|why| EvaluationError::Recorded { line: nth + 1, why: why.to_string() })?;
        let result = CaseResult::from(line);
        if let Some(twice) = found.insert(result.id.clone(), result) {
            return Err(wrong(&twice.id, "has two answers"));
        }
    }
    let mut take = |case: &understudy_manifest::Case| {
        found.remove(&case.id).ok_or_else(|| wrong(&case.id, "has no answer"))
    };
    let results = suite.cases.iter().map(&mut take).collect::<Result<_, _>>()?;
    match found.keys().next() {
        Some(stranger) => Err(wrong(stranger, "is not in the suite")),
        None => Ok(SubjectRun { subject: subject.to_owned(), generation: None, results }),
    }
}

/// Writes answers as [`read_recorded`] reads them.
pub fn write_recorded(run: &SubjectRun) -> String {
    let line = |result: &CaseResult| {
        let line = Line {
            id: result.id.clone(),
            output: result.output.clone(),
            tool_calls: result.calls.clone(),
            latency_ms: result.latency_ms,
            prompt_tokens: result.usage.prompt_tokens,
            completion_tokens: result.usage.completion_tokens,
            error: result.error.clone(),
        };
        canonical_json(&line) + "\n"
    };
    run.results.iter().map(line).collect()
}

impl From<Line> for CaseResult {
    fn from(line: Line) -> Self {
        let Line { prompt_tokens, completion_tokens, .. } = line;
        Self {
            id: line.id,
            output: line.output,
            calls: line.tool_calls,
            latency_ms: line.latency_ms,
            usage: Usage { prompt_tokens, completion_tokens, ..Usage::default() },
            error: line.error,
        }
    }
}
