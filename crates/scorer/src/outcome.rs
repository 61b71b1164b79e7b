//! A score, or why there is none.

use understudy_reward::fields::FieldCounts;

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

/// What a scorer says of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Scored(Score),
    /// Left out of every mean, and shown with this reason.
    Unscored(String),
}

impl Score {
    /// A share of one possible hit.
    pub fn graded(value: f64) -> Self {
        Self { value, hits: value, possible: 1.0 }
    }

    /// Whether the answer is as good as it could be.
    pub fn is_full(&self) -> bool {
        self.hits >= self.possible
    }

    /// The same score counted `weight` times.
    #[must_use]
    pub fn weighted(self, weight: f64) -> Self {
        Self { hits: self.hits * weight, possible: self.possible * weight, ..self }
    }
}

impl Outcome {
    pub fn unscored(why: impl Into<String>) -> Self {
        Self::Unscored(why.into())
    }

    pub fn score(&self) -> Option<Score> {
        match self {
            Self::Scored(score) => Some(*score),
            Self::Unscored(_) => None,
        }
    }
}

impl From<Score> for Outcome {
    fn from(score: Score) -> Self {
        Self::Scored(score)
    }
}

impl From<bool> for Outcome {
    fn from(hit: bool) -> Self {
        Self::Scored(hit.into())
    }
}

impl From<bool> for Score {
    fn from(hit: bool) -> Self {
        Self::graded(if hit { 1.0 } else { 0.0 })
    }
}

impl From<FieldCounts> for Score {
    fn from(counts: FieldCounts) -> Self {
        let (hits, possible) = counts.f1_parts();
        Self { value: counts.f1(), hits, possible }
    }
}
