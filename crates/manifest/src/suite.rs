//! Fixed held-out cases. A suite is a JSONL file: a header line, then one case a line.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use understudy_ident::{Digest, TaskName};
use understudy_message::Message;

use crate::{Check, Rubric, Scorer, canonical_json, digest_json};

/// Named, tiered cases with the scorers that judge them.
#[derive(Debug, Clone, PartialEq)]
pub struct Suite {
    pub name: TaskName,
    pub tier: Tier,
    /// The first is primary: the one a verdict is about.
    pub scorers: Vec<Scorer>,
    /// What the scorer `judge:NAME` asks.
    pub rubrics: Vec<Rubric>,
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
///
/// What a case leaves at its default is not written, so suites from before a field existed keep
/// their digest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub id: String,
    pub prompt: Vec<Message>,
    pub expected: String,
    #[serde(default)]
    pub tags: Vec<String>,
    /// Definitions of the tools that may be called, in the OpenAI form or as bare functions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Value>,
    /// What the scorer `checks` asks of this case alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Check>,
    /// How much the case counts beside others, 1 unless given.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub weight: f64,
    /// Cases of one conversation or template fail together; resampling keeps them together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    #[serde(default, skip_serializing_if = "Risk::is_normal")]
    pub risk: Risk,
    /// Where the case came from: a file and line, a trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<String>,
    /// Why somebody added it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub added_reason: Option<String>,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            id: String::new(),
            prompt: Vec::new(),
            expected: String::new(),
            tags: Vec::new(),
            tools: Vec::new(),
            checks: Vec::new(),
            weight: 1.0,
            cluster: None,
            risk: Risk::Normal,
            provenance: None,
            added_reason: None,
        }
    }
}

impl Case {
    /// Of everything that an answer and its score depend on, so an unchanged case keeps its cached
    /// answers whatever its suite became.
    pub fn digest(&self) -> Digest {
        digest_json(self)
    }
}

/// What failing a case would mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Risk {
    #[default]
    Normal,
    Edge,
    /// The baseline is known to fail it; a candidate is expected to mend some.
    KnownFailure,
    /// A single new failure blocks a release.
    HighRisk,
}

impl Risk {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
    fn is_normal(&self) -> bool {
        *self == Self::Normal
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Edge => "edge",
            Self::KnownFailure => "known_failure",
            Self::HighRisk => "high_risk",
        }
    }
}

fn one() -> f64 {
    1.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_one(weight: &f64) -> bool {
    *weight == 1.0
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    schema: u32,
    suite: TaskName,
    tier: Tier,
    scorers: Vec<Scorer>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rubrics: Vec<Rubric>,
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
    #[error("suite `{suite}`: {why}")]
    Rubric { suite: String, why: String },
    #[error("case `{id}` of suite `{suite}` weighs {weight}; a weight is a number above 0")]
    Weight { suite: String, id: String, weight: String },
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
        let Header { suite: name, tier, scorers, rubrics, .. } = header;
        let suite = Self { name, tier, scorers, rubrics, cases };
        suite.validate()?;
        Ok(suite)
    }

    pub fn to_text(&self) -> String {
        let header = Header {
            schema: Self::SCHEMA,
            suite: self.name.clone(),
            tier: self.tier,
            scorers: self.scorers.clone(),
            rubrics: self.rubrics.clone(),
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

    /// Every rubric is one, and every rubric that is asked for is there.
    fn validate_rubrics(&self) -> Result<(), SuiteError> {
        let refuse = |why| Err(SuiteError::Rubric { suite: self.name.to_string(), why });
        if let Some(why) = self.rubrics.iter().find_map(Rubric::fault) {
            return refuse(why);
        }
        let mut names = std::collections::BTreeSet::new();
        if let Some(twice) = self.rubrics.iter().find(|rubric| !names.insert(&rubric.name)) {
            return refuse(format!("two rubrics are called `{}`", twice.name));
        }
        let checks = self.cases.iter().flat_map(|case| case.checks.iter().map(|c| &c.scorer));
        let missing = self.scorers.iter().chain(checks).find_map(|scorer| match scorer {
            Scorer::Judge(Some(name)) if !names.contains(name) => Some(name),
            _ => None,
        });
        match missing {
            Some(name) => refuse(format!(
                "no rubric is called `{name}`: give it under `rubrics` in the suite's first line, as \
                 {{\"name\": \"{name}\", \"criteria\": [{{\"name\": \"…\", \"holds\": \"…\"}}]}}"
            )),
            None => Ok(()),
        }
    }

    fn validate(&self) -> Result<(), SuiteError> {
        if self.cases.is_empty() {
            return Err(SuiteError::Empty(self.name.to_string()));
        }
        if self.scorers.is_empty() {
            return Err(SuiteError::NoScorer(self.name.to_string()));
        }
        self.validate_rubrics()?;
        let weightless = |case: &&Case| !(case.weight.is_finite() && case.weight > 0.0);
        if let Some(case) = self.cases.iter().find(weightless) {
            let (suite, id) = (self.name.to_string(), case.id.clone());
            return Err(SuiteError::Weight { suite, id, weight: case.weight.to_string() });
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
