//! How good one answer is.
//!
//! Every scorer gives a value from 0 to 1. JSON may be surrounded by whitespace; nothing else
//! around it is forgiven, because the program that reads the reply would not forgive it either.

use understudy_manifest::{Scorer, Suite};
use understudy_reward::{fields, json};

use crate::EvaluationError;

pub use understudy_reward::fields::FieldCounts;

/// One answer under one scorer.
///
/// The value of a whole suite is `Σ hits / Σ possible`: for most scorers the mean, because every
/// case has one possible hit, and for `field_f1` the micro F1, because `hits` is `2·tp` and
/// `possible` is `2·tp + fp + fn`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// This case alone, from 0 to 1.
    pub value: f64,
    pub hits: f64,
    pub possible: f64,
}

impl Score {
    /// Of an answer that never came: it may have missed no fewer fields than were expected.
    pub fn unanswered(scorer: &Scorer, expected: &str) -> Self {
        match scorer {
            Scorer::FieldF1 => fields::count(expected, None).into(),
            Scorer::Exact | Scorer::JsonValid | Scorer::JsonEqual | Scorer::Field(_) => {
                Self::from(false)
            }
        }
    }
}

impl From<bool> for Score {
    fn from(hit: bool) -> Self {
        let value = if hit { 1.0 } else { 0.0 };
        Self { value, hits: value, possible: 1.0 }
    }
}

impl From<FieldCounts> for Score {
    fn from(counts: FieldCounts) -> Self {
        let (hits, possible) = counts.f1_parts();
        Self { value: ratio(hits, possible), hits, possible }
    }
}

/// Judges an answer. `expected` must be JSON for the scorers that compare JSON; see [`check`].
pub fn score(scorer: &Scorer, expected: &str, output: &str) -> Score {
    match scorer {
        Scorer::Exact => (expected.trim() == output.trim()).into(),
        Scorer::JsonValid => json::parse(output).is_ok().into(),
        Scorer::JsonEqual => json::texts_equal(expected, output).into(),
        Scorer::Field(key) => json::texts_agree_at(key, expected, output).into(),
        Scorer::FieldF1 => fields::count(expected, Some(output)).into(),
    }
}

/// `hits / possible`; where nothing was possible, nothing was missed.
pub(crate) fn ratio(hits: f64, possible: f64) -> f64 {
    if possible == 0.0 { 1.0 } else { hits / possible }
}

/// Finds a case whose expected answer its scorers cannot read, before anything is generated.
pub fn check(suite: &Suite, scorers: &[Scorer]) -> Result<(), EvaluationError> {
    let reads_expected =
        |scorer: &&Scorer| matches!(scorer, Scorer::JsonEqual | Scorer::FieldF1 | Scorer::Field(_));
    let Some(scorer) = scorers.iter().find(reads_expected) else { return Ok(()) };
    for case in &suite.cases {
        json::parse(&case.expected).map_err(|why| EvaluationError::ExpectedNotJson {
            suite: suite.name.to_string(),
            case: case.id.clone(),
            scorer: scorer.name(),
            why: why.to_string(),
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
