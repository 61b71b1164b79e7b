//! The pull of a policy stage towards its reference.

use serde::{Deserialize, Serialize};

/// Which estimate of the divergence from the reference is the value of the loss.
/// With `x = lp − ref`: k1 is `x`, k2 is `x²/2`, k3 is `e⁻ˣ + x − 1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KlEstimator {
    K1,
    K2,
    #[default]
    K3,
}

impl KlEstimator {
    pub const ALL: [Self; 3] = [Self::K1, Self::K2, Self::K3];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::K1 => "k1",
            Self::K2 => "k2",
            Self::K3 => "k3",
        }
    }
}

/// Which estimate's derivative is the gradient of the loss, whatever its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KlGradient {
    /// `1 − e⁻ˣ`: TRL's. Bounded above, but not the gradient of the reverse divergence.
    #[default]
    K3,
    /// `x`: the gradient of the reverse divergence, on-policy.
    K2,
}

impl KlGradient {
    pub const ALL: [Self; 2] = [Self::K3, Self::K2];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::K3 => "k3",
            Self::K2 => "k2",
        }
    }
}

/// The pull towards the reference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KlSettings {
    /// Weight; 0 turns it off, and then no reference is needed.
    pub beta: f64,
    pub estimator: KlEstimator,
    pub gradient: KlGradient,
    /// Multiply by the ratio, which makes the estimate unbiased off-policy.
    pub bias_corrected: bool,
}

impl Default for KlSettings {
    fn default() -> Self {
        let (estimator, gradient) = (KlEstimator::default(), KlGradient::default());
        Self { beta: 0.02, estimator, gradient, bias_corrected: false }
    }
}
