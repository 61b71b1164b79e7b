//! Fixed held-out cases. A suite is a JSONL file: a header line, then one case a line.

use serde::{Deserialize, Serialize};
use understudy_ident::{Digest, TaskName};
use understudy_message::Message;

use crate::canonical_json;

/// Named, tiered cases with the scorers that judge them.
#[derive(Debug, Clone, PartialEq)]
pub struct Suite {
    pub name: TaskName,
    pub tier: Tier,
    /// The first is primary: the one a verdict is about.
    pub scorers: Vec<Scorer>,
    pub cases: Vec<Case>,
}

/// Who may look: anyone, promotions only, or nobody case by case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    Dev,
    Gate,
    Sealed,
}

/// One held-out input with the answer it should get.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub id: String,
    pub prompt: Vec<Message>,
    pub expected: String,
    #[serde(default)]
    pub tags: Vec<String>,
}

/// How an answer is judged, each giving a score in [0, 1].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scorer {
    /// The same text after trimming.
    Exact,
    /// Parses as JSON.
    JsonValid,
    /// The same JSON value, key order free.
    JsonEqual,
    /// Micro F1 over (path, value) pairs.
    FieldF1,
    /// The value at one top-level key equals the expected one; written `field:intent`.
    Field(String),
}

impl Serialize for Scorer {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.name())
    }
}

impl<'de> Deserialize<'de> for Scorer {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text).ok_or_else(|| {
            serde::de::Error::custom(format!(
                "unknown scorer `{text}`: use exact, json_valid, json_equal, field_f1 or field:KEY"
            ))
        })
    }
}

impl Scorer {
    pub fn name(&self) -> String {
        match self {
            Self::Exact => "exact".to_owned(),
            Self::JsonValid => "json_valid".to_owned(),
            Self::JsonEqual => "json_equal".to_owned(),
            Self::FieldF1 => "field_f1".to_owned(),
            Self::Field(key) => format!("field:{key}"),
        }
    }

    /// Reads the spelling of [`Self::name`].
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "exact" => Some(Self::Exact),
            "json_valid" => Some(Self::JsonValid),
            "json_equal" => Some(Self::JsonEqual),
            "field_f1" => Some(Self::FieldF1),
            _ => text
                .strip_prefix("field:")
                .filter(|key| !key.is_empty())
                .map(|key| Self::Field(key.to_owned())),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    schema: u32,
    suite: TaskName,
    tier: Tier,
    scorers: Vec<Scorer>,
}

/// What is wrong with a suite file, and on which line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SuiteError {
    #[error("line {line} of the suite is not readable: {why}")]
    Line { line: usize, why: String },
    #[error("suite `{0}` has no cases")]
    Empty(String),
    #[error("suite `{suite}` has two cases called `{id}`")]
    Duplicate { suite: String, id: String },
    #[error("suite `{0}` names no scorer; the first scorer is the one a verdict is about")]
    NoScorer(String),
}

impl Suite {
    const SCHEMA: u32 = 1;

    pub fn parse(text: &str) -> Result<Self, SuiteError> {
        let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let wrong = |line: usize, why: String| SuiteError::Line { line: line + 1, why };
        let (at, first) = lines.next().ok_or_else(|| wrong(0, "the file is empty".to_owned()))?;
        let header: Header =
            serde_json::from_str(first).map_err(|why| wrong(at, why.to_string()))?;
        if header.schema != Self::SCHEMA {
            let why = format!("schema {} is not supported, only 1", header.schema);
            return Err(wrong(at, why));
        }
        let cases = lines
            .map(|(at, line)| serde_json::from_str(line).map_err(|why| wrong(at, why.to_string())))
            .collect::<Result<Vec<Case>, _>>()?;
        let suite = Self { name: header.suite, tier: header.tier, scorers: header.scorers, cases };
        suite.validate()?;
        Ok(suite)
    }

    pub fn to_text(&self) -> String {
        let header = Header {
            schema: Self::SCHEMA,
            suite: self.name.clone(),
            tier: self.tier,
            scorers: self.scorers.clone(),
        };
        let mut text = canonical_json(&header);
        for case in &self.cases {
            text.push('\n');
            text.push_str(&canonical_json(case));
        }
        text.push('\n');
        text
    }

    /// Changing any case, scorer or tier makes another suite.
    pub fn digest(&self) -> Digest {
        Digest::of(self.to_text().as_bytes())
    }

    fn validate(&self) -> Result<(), SuiteError> {
        if self.cases.is_empty() {
            return Err(SuiteError::Empty(self.name.to_string()));
        }
        if self.scorers.is_empty() {
            return Err(SuiteError::NoScorer(self.name.to_string()));
        }
        let mut seen = std::collections::BTreeSet::new();
        match self.cases.iter().find(|case| !seen.insert(case.id.as_str())) {
            Some(case) => {
                Err(SuiteError::Duplicate { suite: self.name.to_string(), id: case.id.clone() })
            }
            None => Ok(()),
        }
    }
}
