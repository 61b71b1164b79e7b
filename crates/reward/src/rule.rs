//! Verifiers that follow a rule and need nothing but the attempt.

use std::fmt;

use jsonschema::Validator;
use regex::Regex;
use serde_json::Value;
use understudy_message::Message;

use crate::{
    Attempt, Reward, RewardError,
    calls::{self, Call},
    fields, json, number,
};

/// One rule under the name its component is reported as.
#[derive(Debug)]
pub struct Rule {
    name: String,
    kind: Kind,
}

enum Kind {
    Exact { normalise: bool },
    Number { tolerance: f64 },
    JsonValid,
    JsonEqual,
    JsonSchema(Box<Validator>),
    FieldF1,
    Regex(Regex),
    ToolCall,
}

impl Rule {
    pub fn exact(name: &str, normalise_whitespace: bool) -> Self {
        Self::new(name, Kind::Exact { normalise: normalise_whitespace })
    }

    /// `tolerance` is the largest absolute difference that still counts as equal.
    pub fn number(name: &str, tolerance: f64) -> Self {
        Self::new(name, Kind::Number { tolerance })
    }

    pub fn json_valid(name: &str) -> Self {
        Self::new(name, Kind::JsonValid)
    }

    pub fn json_equal(name: &str) -> Self {
        Self::new(name, Kind::JsonEqual)
    }

    /// A `$ref` must point into the schema itself: none is fetched.
    pub fn json_schema(name: &str, schema: &Value) -> Result<Self, RewardError> {
        let validator = jsonschema::validator_for(schema)
            .map_err(|why| RewardError::Schema { reward: name.to_owned(), why: why.to_string() })?;
        Ok(Self::new(name, Kind::JsonSchema(Box::new(validator))))
    }

    pub fn field_f1(name: &str) -> Self {
        Self::new(name, Kind::FieldF1)
    }

    /// The pattern may occur anywhere in the answer.
    pub fn regex(name: &str, pattern: &str) -> Result<Self, RewardError> {
        let regex = Regex::new(pattern).map_err(|why| RewardError::Pattern {
            reward: name.to_owned(),
            why: why.to_string(),
        })?;
        Ok(Self::new(name, Kind::Regex(regex)))
    }

    pub fn tool_call(name: &str) -> Self {
        Self::new(name, Kind::ToolCall)
    }

    fn new(name: &str, kind: Kind) -> Self {
        Self { name: name.to_owned(), kind }
    }
}

impl Reward for Rule {
    fn name(&self) -> &str {
        &self.name
    }

    /// Rules that compare have no opinion where nothing is expected.
    fn score(&self, attempt: &Attempt<'_>) -> Result<Option<f64>, RewardError> {
        let answer = attempt.answer();
        let Some(expected) = attempt.expected else {
            return Ok(self.kind.judge_alone(&answer).map(from_bool));
        };
        self.kind.judge(attempt, &answer, expected)
    }
}

impl Kind {
    fn judge_alone(&self, answer: &str) -> Option<bool> {
        match self {
            Self::JsonValid => Some(json::parse(answer).is_ok()),
            Self::JsonSchema(schema) => {
                Some(json::parse(answer).is_ok_and(|value| schema.is_valid(&value)))
            }
            Self::Regex(pattern) => Some(pattern.is_match(answer)),
            Self::Exact { .. }
            | Self::Number { .. }
            | Self::JsonEqual
            | Self::FieldF1
            | Self::ToolCall => None,
        }
    }

    fn judge(
        &self,
        attempt: &Attempt<'_>,
        answer: &str,
        expected: &Message,
    ) -> Result<Option<f64>, RewardError> {
        let wanted = expected.text();
        let hit = match self {
            Self::JsonValid | Self::JsonSchema(_) | Self::Regex(_) => self.judge_alone(answer),
            Self::Exact { normalise: false } => Some(wanted.trim() == answer.trim()),
            Self::Exact { normalise: true } => {
                Some(wanted.split_whitespace().eq(answer.split_whitespace()))
            }
            Self::Number { tolerance } => number::last_number(&wanted).map(|wanted| {
                let given = number::last_number(answer);
                given.is_some_and(|given| number::close(wanted, given, *tolerance))
            }),
            Self::JsonEqual => {
                check_json(&wanted)?;
                Some(json::texts_equal(&wanted, answer))
            }
            Self::FieldF1 => {
                check_json(&wanted)?;
                return Ok(Some(fields::count(&wanted, Some(answer)).f1()));
            }
            Self::ToolCall => Some(makes_the_calls(attempt, expected)),
        };
        Ok(hit.map(from_bool))
    }
}

/// A malformed call matches nothing. One that the expected answer itself contains is a mistake of
/// the data that no attempt can meet.
fn makes_the_calls(attempt: &Attempt<'_>, expected: &Message) -> bool {
    let made: Result<Vec<Call>, _> = attempt.said().flat_map(calls::calls_of).collect();
    let wanted: Result<Vec<Call>, _> = calls::calls_of(expected).into_iter().collect();
    matches!((wanted, made), (Ok(wanted), Ok(made)) if calls::same_calls(&wanted, &made))
}

fn check_json(expected: &str) -> Result<(), RewardError> {
    let parsed = json::parse(expected);
    parsed.map(drop).map_err(|why| RewardError::ExpectedNotJson(why.to_string()))
}

fn from_bool(hit: bool) -> f64 {
    if hit { 1.0 } else { 0.0 }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exact { .. } => "Exact",
            Self::Number { .. } => "Number",
            Self::JsonValid => "JsonValid",
            Self::JsonEqual => "JsonEqual",
            Self::JsonSchema(_) => "JsonSchema",
            Self::FieldF1 => "FieldF1",
            Self::Regex(_) => "Regex",
            Self::ToolCall => "ToolCall",
        })
    }
}
