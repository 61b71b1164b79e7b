//! The correction of a policy stage for its sampler.

use serde::{Deserialize, Serialize};

/// How the sampler's numerics, which differ from the trainer's, are corrected for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImportanceCorrection {
    Off,
    /// Each token's weight, held between `min` and `max`.
    #[default]
    TokenTruncate,
    /// Each token's weight, or 0 outside `min` to `max`.
    TokenMask,
    /// The product of the sequence's weights, held between `min` and `max`.
    SequenceTruncate,
    /// The product of the sequence's weights, or 0 outside `min` to `max`.
    SequenceMask,
}

impl ImportanceCorrection {
    pub const ALL: [Self; 5] = [
        Self::Off,
        Self::TokenTruncate,
        Self::TokenMask,
        Self::SequenceTruncate,
        Self::SequenceMask,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::TokenTruncate => "token_truncate",
            Self::TokenMask => "token_mask",
            Self::SequenceTruncate => "sequence_truncate",
            Self::SequenceMask => "sequence_mask",
        }
    }
}

/// The correction of what the sampler's log-probabilities differ by from the trainer's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CorrectionSettings {
    pub mode: ImportanceCorrection,
    /// The least weight; 0 for no bound.
    pub min: f64,
    /// The largest weight.
    pub max: f64,
}

impl Default for CorrectionSettings {
    fn default() -> Self {
        Self { mode: ImportanceCorrection::default(), min: 0.0, max: 2.0 }
    }
}
