//! How the rewards of a group become advantages.

use serde::{Deserialize, Serialize};

use super::{SettingError, ensure, not_negative};

/// What a centred reward is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdvantageScale {
    /// `(R − mean) / (std of the group + eps)`: GRPO.
    #[default]
    Group,
    /// `(R − mean) / (std of all rewards of the batch + eps)`
    Batch,
    /// `R − mean`: Dr. GRPO.
    None,
    /// `R − mean of the others`, which is `(R − mean)·G/(G − 1)`.
    Rloo,
    /// `(R − mean) / (mean + eps)`: MaxRL, for rewards of 0 or more.
    MaxRl,
}

impl AdvantageScale {
    pub const ALL: [Self; 5] = [Self::Group, Self::Batch, Self::None, Self::Rloo, Self::MaxRl];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Group => "group",
            Self::Batch => "batch",
            Self::None => "none",
            Self::Rloo => "rloo",
            Self::MaxRl => "max_rl",
        }
    }
}

/// The numbers frameworks silently disagree about. Rewards {1, 0} have advantages ±0.71 with
/// `std_ddof` 1 and ±1 with 0, so it is never left unsaid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdvantageSettings {
    pub scale: AdvantageScale,
    /// Subtracted from the count under the variance: 1 for the sample's, 0 for the population's.
    pub std_ddof: u8,
    /// Added to what is divided by.
    pub eps: f64,
    /// A group of one keeps its reward as its advantage, rather than having none.
    pub keep_lone: bool,
}

impl AdvantageSettings {
    /// As TRL's `scale_rewards="group"`.
    pub fn trl() -> Self {
        Self { scale: AdvantageScale::Group, std_ddof: 1, eps: 1e-4, keep_lone: false }
    }

    /// As OpenPipe's ART.
    pub fn art() -> Self {
        Self { std_ddof: 0, eps: 1e-6, ..Self::trl() }
    }

    /// As verl's `grpo` estimator.
    pub fn verl() -> Self {
        Self { std_ddof: 1, eps: 1e-6, keep_lone: true, ..Self::trl() }
    }

    pub fn check(&self) -> Result<(), SettingError> {
        ensure(self.std_ddof <= 1, "std_ddof", "must be 0 or 1")?;
        not_negative("eps", self.eps)
    }
}

impl Default for AdvantageSettings {
    fn default() -> Self {
        Self::trl()
    }
}
