//! Answers that were given before, one a line: `{"id": "0001", "output": "…", "latency_ms": 12.5}`.

use std::collections::BTreeMap;

use understudy_inference::Usage;
use understudy_manifest::{RecordedAnswer, Suite, canonical_json};

use crate::{
    EvaluationError,
    run::{CaseResult, SubjectRun},
};

/// The share of a suite's cases of which nothing may be recorded.
const ABSENT_MAX: f64 = 0.02;

/// Reads the answers of one subject, in any order; every case of the suite needs exactly one, but for
/// one in fifty, which are left out as unscored. Where cases were attempted several times, an attempt
/// that is missing is a failed one.
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
    let mut found: BTreeMap<(usize, String), CaseResult> = BTreeMap::new();
    for (nth, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let line: RecordedAnswer = serde_json::from_str(line)
            .map_err(|why| EvaluationError::Recorded { line: nth + 1, why: why.to_string() })?;
        let attempt = line.attempt;
        let result = CaseResult::from(line);
        if let Some(twice) = found.insert((attempt, result.id.clone()), result) {
            return Err(wrong(&twice.id, "has two answers"));
        }
    }
    let last = found.keys().map(|(attempt, _)| *attempt).max().unwrap_or(0);
    let mut take = |attempt: usize, id: &str| found.remove(&(attempt, id.to_owned()));
    let ids: Vec<String> = suite.cases.iter().map(|case| case.id.clone()).collect();
    let results: Vec<CaseResult> =
        ids.iter().map(|id| take(0, id).unwrap_or_else(|| absent(id))).collect();
    let mut without = results.iter().filter(|result| result.absent);
    if let Some(first) = without.next()
        && (1 + without.count()) as f64 > ABSENT_MAX * ids.len() as f64
    {
        return Err(wrong(&first.id, "has no answer"));
    }
    let mut more = Vec::new();
    for attempt in 1..=last {
        let one = |id: &String| take(attempt, id).unwrap_or_else(|| missing(id));
        more.push(ids.iter().map(one).collect());
    }
    match found.keys().next() {
        Some((_, stranger)) => Err(wrong(stranger, "is not in the suite")),
        None => {
            Ok(SubjectRun { subject: subject.to_owned(), results, more, ..SubjectRun::default() })
        }
    }
}

fn absent(id: &str) -> CaseResult {
    CaseResult { id: id.to_owned(), absent: true, ..CaseResult::default() }
}

fn missing(id: &str) -> CaseResult {
    let error = Some("this attempt was not recorded".to_owned());
    CaseResult { id: id.to_owned(), error, ..CaseResult::default() }
}

/// Writes answers as [`read_recorded`] reads them.
pub fn write_recorded(run: &SubjectRun) -> String {
    let line = |attempt: usize, result: &CaseResult| {
        let line = RecordedAnswer {
            id: result.id.clone(),
            attempt,
            output: result.output.clone(),
            tool_calls: result.calls.clone(),
            steps: result.steps.clone(),
            state: result.state.clone(),
            scores: result.scores.clone(),
            cost: result.cost,
            latency_ms: result.latency_ms,
            prompt_tokens: result.usage.prompt_tokens,
            completion_tokens: result.usage.completion_tokens,
            error: result.error.clone(),
        };
        canonical_json(&line) + "\n"
    };
    let attempts = run.attempts().enumerate();
    let known = attempts.flat_map(|(nth, results)| {
        results.iter().filter(|result| !result.absent).map(move |it| line(nth, it))
    });
    known.collect()
}

impl From<RecordedAnswer> for CaseResult {
    fn from(line: RecordedAnswer) -> Self {
        let RecordedAnswer { prompt_tokens, completion_tokens, .. } = line;
        Self {
            id: line.id,
            output: line.output,
            calls: line.tool_calls,
            latency_ms: line.latency_ms,
            usage: Usage { prompt_tokens, completion_tokens, ..Usage::default() },
            error: line.error,
            absent: false,
            steps: line.steps,
            state: line.state,
            scores: line.scores,
            cost: line.cost,
        }
    }
}
