//! The choices a policy makes that are no plain numbers.

use serde::{Deserialize, Serialize};

/// What a canary is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Control {
    /// An equal slice of the stable arm, drawn by the same hash and served at the same time.
    #[default]
    Concurrent,
    /// Everything the stable arm serves. Always refused: while a ramp goes on, most canary units
    /// are late ones and most stable units early ones, so a drift of the traffic looks like harm.
    /// It can be said only so that the refusal can tell why.
    Pooled,
}

/// How much worse a canary may be and still be promoted. In a file, `0.05` or `{relative = 0.05}`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Margin {
    /// In units of what is measured.
    Absolute(f64),
    /// As a share of the baseline's mean.
    Relative { relative: f64 },
}

impl Margin {
    pub fn size(self) -> f64 {
        match self {
            Self::Absolute(size) | Self::Relative { relative: size } => size,
        }
    }

    /// In units of what is measured, where the baseline's mean is `mean`.
    pub fn at(self, mean: f64) -> f64 {
        match self {
            Self::Absolute(size) => size,
            Self::Relative { relative } => relative * mean.abs(),
        }
    }
}

impl From<f64> for Margin {
    fn from(size: f64) -> Self {
        Self::Absolute(size)
    }
}
