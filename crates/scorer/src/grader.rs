//! One scorer over one case, with everything that the case expects read beforehand.

use std::collections::BTreeSet;

use jsonschema::Validator;
use regex::Regex;
use serde_json::Value;
use understudy_manifest::{Case, Check, Rubric, Scorer, Share};
use understudy_message::Message;
use understudy_redact::{Policy, Redactor};
use understudy_reward::{calls::Call, fields, json, number};

use crate::{
    Answer, Outcome, Score, ScorerError,
    calls::{Expected, Rules},
    rubric::{Assessment, Assessor},
    similarity::{Embedder, similarity},
    state::FinalState,
    text::{as_number, is_refusal, levenshtein, normalised},
    trajectory::Demands,
};

/// Who is asked where rules do not suffice; what none of them is there for stays unscored.
#[derive(Clone, Copy, Default)]
pub struct Aids<'a> {
    pub embedder: Option<&'a dyn Embedder>,
    pub assessor: Option<&'a dyn Assessor>,
}

impl std::fmt::Debug for Aids<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("Aids");
        debug.field("embedder", &self.embedder.is_some());
        debug.field("assessor", &self.assessor.is_some()).finish()
    }
}

/// Judges answers to one case.
#[derive(Debug)]
pub struct Grader {
    expected: String,
    rule: Rule,
}

/// A scorer that has read the expected answer.
#[derive(Debug)]
enum Rule {
    Exact,
    Normalized,
    Number(f64),
    StartsWith,
    Contains,
    ContainsAnyCase,
    ContainsAny(Vec<String>),
    ContainsAll(Vec<String>),
    Fuzzy(Vec<String>),
    Regex(Regex),
    JsonValid,
    JsonSchema(Box<Validator>),
    JsonEqual,
    FieldF1,
    Field(String),
    Calls(Expected, Rules),
    CallNames(BTreeSet<String>),
    Trajectory(Demands),
    State(FinalState),
    Similarity(Option<Share>),
    Levenshtein(Option<Share>),
    Latency(u64),
    Tokens(u64),
    Cost(u64),
    Refusal {
        wanted: bool,
    },
    /// With the texts in which personal data was there already.
    PiiLeak(Vec<String>),
    Judge(Assessment),
    Recorded(String),
    Checks(Vec<(Check, Grader)>),
}

impl Grader {
    /// Reads what the case expects of this scorer.
    pub fn new(scorer: &Scorer, case: &Case) -> Result<Self, ScorerError> {
        Self::with_rubrics(scorer, case, &[])
    }

    /// The same for a suite that has rubrics.
    pub fn with_rubrics(
        scorer: &Scorer,
        case: &Case,
        rubrics: &[Rubric],
    ) -> Result<Self, ScorerError> {
        Self::of(scorer, &case.expected, (case, rubrics))
    }

    fn of(
        scorer: &Scorer,
        expected: &str,
        (case, rubrics): (&Case, &[Rubric]),
    ) -> Result<Self, ScorerError> {
        let expected = expected.to_owned();
        let rule = Rule::read(scorer, &expected, (case, rubrics))?;
        Ok(Self { expected, rule })
    }

    /// Judges one answer. Without an embedder, similarity is unscored.
    pub fn score(&self, answer: &Answer<'_>, embedder: Option<&dyn Embedder>) -> Outcome {
        self.score_with(answer, Aids { embedder, assessor: None })
    }

    /// Judges one answer with whoever is at hand.
    pub fn score_with(&self, answer: &Answer<'_>, aids: Aids<'_>) -> Outcome {
        let (expected, text) = (self.expected.as_str(), answer.text);
        match &self.rule {
            Rule::Exact => (expected.trim() == text.trim()).into(),
            Rule::Normalized => same_normalised(expected, text).into(),
            Rule::Number(wanted) => (number::last_number(text) == Some(*wanted)).into(),
            Rule::StartsWith => text.trim_start().starts_with(expected).into(),
            Rule::Contains => text.contains(expected).into(),
            Rule::ContainsAnyCase => text.to_lowercase().contains(&expected.to_lowercase()).into(),
            Rule::ContainsAny(texts) => texts.iter().any(|one| text.contains(one)).into(),
            Rule::ContainsAll(texts) => texts.iter().all(|one| text.contains(one)).into(),
            Rule::Fuzzy(texts) => texts.iter().any(|one| holds_either_way(one, text)).into(),
            Rule::Regex(pattern) => pattern.is_match(text).into(),
            Rule::JsonValid => json::parse(text).is_ok().into(),
            Rule::JsonSchema(schema) => {
                json::parse(text).is_ok_and(|value| schema.is_valid(&value)).into()
            }
            Rule::JsonEqual => json::texts_equal(expected, text).into(),
            Rule::FieldF1 => Score::from(fields::count(expected, Some(text))).into(),
            Rule::Field(key) => json::texts_agree_at(key, expected, text).into(),
            Rule::Calls(wanted, rules) => calls(answer, wanted, *rules),
            Rule::CallNames(wanted) => name_f1(wanted, answer).into(),
            Rule::Trajectory(demands) => {
                well_formed(answer).is_some_and(|made| demands.broken(&made).is_none()).into()
            }
            Rule::State(wanted) => match answer.state {
                Some(state) => wanted.broken(state).is_none().into(),
                None => Outcome::unscored("no final state was recorded"),
            },
            Rule::Similarity(least) => match aids.embedder.map(|e| similarity(e, expected, text)) {
                Some(Ok(cosine)) => at_least(cosine, *least).into(),
                Some(Err(why)) => Outcome::unscored(why),
                None => Outcome::unscored("no embedder was given"),
            },
            Rule::Levenshtein(least) => at_least(levenshtein(expected, text), *least).into(),
            Rule::Latency(most) => within(answer.measured.latency_ms, *most as f64, "latency"),
            Rule::Tokens(most) => {
                within(answer.measured.completion_tokens.map(f64::from), *most as f64, "length")
            }
            Rule::Cost(most) => {
                within(answer.measured.cost.map(|cost| cost as f64), *most as f64, "cost")
            }
            Rule::Refusal { wanted } => (is_refusal(text) == *wanted).into(),
            Rule::PiiLeak(known) => (!leaks(text, known)).into(),
            Rule::Judge(assessment) => match aids.assessor {
                Some(assessor) => assessment.outcome(answer, assessor),
                None => Outcome::unscored("no judge was asked"),
            },
            Rule::Recorded(name) => match answer.scores.and_then(|scores| scores.get(name)) {
                Some(score) => Score::graded(*score).into(),
                None => Outcome::unscored(format!("no score of `{name}` was recorded")),
            },
            Rule::Checks(checks) => composite(checks, answer, aids),
        }
    }

    /// Of an answer that never came: it may have missed no fewer fields than were expected.
    pub fn unanswered(&self) -> Score {
        match self.rule {
            Rule::FieldF1 => fields::count(&self.expected, None).into(),
            _ => Score::from(false),
        }
    }
}

impl Rule {
    fn read(
        scorer: &Scorer,
        expected: &str,
        (case, rubrics): (&Case, &[Rubric]),
    ) -> Result<Self, ScorerError> {
        Ok(match scorer {
            Scorer::Exact => Self::Exact,
            Scorer::Normalized => Self::Normalized,
            Scorer::Number => {
                Self::Number(number::last_number(expected).ok_or(ScorerError::NoNumber)?)
            }
            Scorer::StartsWith => Self::StartsWith,
            Scorer::Contains => Self::Contains,
            Scorer::ContainsAnyCase => Self::ContainsAnyCase,
            Scorer::ContainsAny => Self::ContainsAny(texts(expected)?),
            Scorer::ContainsAll => Self::ContainsAll(texts(expected)?),
            Scorer::Fuzzy => Self::Fuzzy(texts(expected)?),
            Scorer::Regex(pattern) => {
                let pattern = pattern.as_deref().unwrap_or(expected);
                Self::Regex(
                    Regex::new(pattern).map_err(|why| ScorerError::Pattern(why.to_string()))?,
                )
            }
            Scorer::JsonValid => Self::JsonValid,
            Scorer::JsonSchema => Self::JsonSchema(Box::new(schema(expected)?)),
            Scorer::JsonEqual => parsed(expected).map(|_| Self::JsonEqual)?,
            Scorer::FieldF1 => parsed(expected).map(|_| Self::FieldF1)?,
            Scorer::Field(key) => parsed(expected).map(|_| Self::Field(key.clone()))?,
            Scorer::ToolCallAst => {
                Self::Calls(Expected::parse(expected, &case.tools)?, Rules::Strict)
            }
            Scorer::ToolCallBfcl => {
                Self::Calls(Expected::parse(expected, &case.tools)?, Rules::Bfcl)
            }
            Scorer::ToolNameF1 => Self::CallNames(Expected::parse(expected, &case.tools)?.names()),
            Scorer::Trajectory => {
                Self::Trajectory(Demands::parse(expected).map_err(ScorerError::Trajectory)?)
            }
            Scorer::State => Self::State(FinalState::parse(expected).map_err(ScorerError::State)?),
            Scorer::Similarity(least) => Self::Similarity(*least),
            Scorer::Levenshtein(least) => Self::Levenshtein(*least),
            Scorer::Latency(most) => Self::Latency(*most),
            Scorer::Tokens(most) => Self::Tokens(*most),
            Scorer::Cost(most) => Self::Cost(*most),
            Scorer::Refusal => Self::Refusal { wanted: true },
            Scorer::NoRefusal => Self::Refusal { wanted: false },
            Scorer::PiiLeak => Self::PiiLeak(known_texts(case, expected)),
            Scorer::Judge(name) => {
                Self::Judge(assessment(name.as_deref(), expected, case, rubrics)?)
            }
            Scorer::Recorded(name) => Self::Recorded(name.clone()),
            Scorer::Checks => Self::Checks(checks(case, rubrics)?),
        })
    }
}

fn parsed(expected: &str) -> Result<Value, ScorerError> {
    json::parse(expected).map_err(|why| ScorerError::NotJson(why.to_string()))
}

fn texts(expected: &str) -> Result<Vec<String>, ScorerError> {
    serde_json::from_str(expected).map_err(|why| ScorerError::NotTexts(why.to_string()))
}

fn schema(expected: &str) -> Result<Validator, ScorerError> {
    jsonschema::validator_for(&parsed(expected)?)
        .map_err(|why| ScorerError::Schema(why.to_string()))
}

fn known_texts(case: &Case, expected: &str) -> Vec<String> {
    case.prompt.iter().map(Message::text).chain([expected.to_owned()]).collect()
}

/// The suite's rubric of a name, or the statement that the case brings.
fn assessment(
    name: Option<&str>,
    expected: &str,
    case: &Case,
    rubrics: &[Rubric],
) -> Result<Assessment, ScorerError> {
    let Some(name) = name else {
        if expected.trim().is_empty() {
            return Err(ScorerError::NoStatement);
        }
        return Ok(Assessment::new(&Rubric::of_statement(expected), case, None));
    };
    let rubric = rubrics.iter().find(|rubric| rubric.name == name);
    let rubric = rubric.ok_or_else(|| ScorerError::NoRubric(name.to_owned()))?;
    Ok(Assessment::new(rubric, case, Some(expected)))
}

fn checks(case: &Case, rubrics: &[Rubric]) -> Result<Vec<(Check, Grader)>, ScorerError> {
    if case.checks.is_empty() {
        return Err(ScorerError::NoChecks);
    }
    let read = |check: &Check| {
        if check.scorer == Scorer::Checks {
            return Err(ScorerError::NestedChecks);
        }
        if !(check.weight.is_finite() && check.weight > 0.0) {
            return Err(ScorerError::Weight(check.weight.to_string()));
        }
        let value = check.value.as_deref().unwrap_or(&case.expected);
        Ok((check.clone(), Grader::of(&check.scorer, value, (case, rubrics))?))
    };
    case.checks.iter().map(read).collect()
}

/// Where both are numbers they are compared as such, so that no rule on texts can make "25" a "5".
fn same_normalised(expected: &str, text: &str) -> bool {
    match (as_number(expected), as_number(text)) {
        (Some(wanted), Some(given)) => wanted == given,
        _ => normalised(expected) == normalised(text),
    }
}

/// Whether one text holds the other, normalised; an empty one holds and is held by nothing else.
fn holds_either_way(one: &str, other: &str) -> bool {
    let (one, other) = (normalised(one), normalised(other));
    if one.is_empty() || other.is_empty() {
        return one == other;
    }
    one.contains(&other) || other.contains(&one)
}

fn at_least(value: f64, least: Option<Share>) -> Score {
    least.map_or_else(|| Score::graded(value), |least| (value >= least.get()).into())
}

fn within(measured: Option<f64>, most: f64, what: &str) -> Outcome {
    match measured {
        Some(measured) => (measured <= most).into(),
        None => Outcome::unscored(format!("no {what} was measured")),
    }
}

/// All calls, unless one is malformed: such an answer meets no demand on calls.
fn well_formed(answer: &Answer<'_>) -> Option<Vec<Call>> {
    answer.tool_calls().into_iter().collect::<Result<_, _>>().ok()
}

fn calls(answer: &Answer<'_>, wanted: &Expected, rules: Rules) -> Outcome {
    well_formed(answer).is_some_and(|made| wanted.check(&made, rules).is_ok()).into()
}

/// `2·|A ∩ B| / (|A| + |B|)`; two empty sets agree. A malformed call has no name.
fn name_f1(wanted: &BTreeSet<String>, answer: &Answer<'_>) -> Score {
    let made: BTreeSet<String> =
        answer.tool_calls().into_iter().flatten().map(|call| call.name).collect();
    let total = wanted.len() + made.len();
    let shared = wanted.intersection(&made).count();
    Score::graded(if total == 0 { 1.0 } else { 2.0 * shared as f64 / total as f64 })
}

fn leaks(text: &str, known: &[String]) -> bool {
    let found = Redactor::new(Policy::Standard).find(text);
    found.iter().any(|span| {
        let value = &text[span.start..span.end];
        !known.iter().any(|text| text.contains(value))
    })
}

/// `Σ weight·value / Σ weight`. One check that cannot decide leaves the whole undecided.
fn composite(checks: &[(Check, Grader)], answer: &Answer<'_>, aids: Aids<'_>) -> Outcome {
    let (mut sum, mut weights) = (0.0, 0.0);
    for (check, grader) in checks {
        let value = match grader.score_with(answer, aids) {
            Outcome::Scored(score) => score.value,
            Outcome::Unscored(why) => {
                return Outcome::unscored(format!("{}: {why}", check.scorer.name()));
            }
        };
        let met = match check.threshold {
            Some(least) if value >= least => 1.0,
            Some(_) => 0.0,
            None => value,
        };
        sum += check.weight * if check.negate { 1.0 - met } else { met };
        weights += check.weight;
    }
    Score::graded(sum / weights).into()
}
