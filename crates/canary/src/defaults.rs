//! What recipes do not say about the rules of a release: error rates, absolute limits and margins that
//! a deployment has once for all of them.

use serde::{Deserialize, Serialize};
use understudy_router::{Policy, RouterError};

/// `[release.policy]` of the configuration. What a recipe's `[release]` says is not among it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyDefaults {
    pub alpha_rollback: f64,
    pub alpha_promote: f64,
    pub alpha_slo: f64,
    pub alpha_ratio: f64,
    pub flag_margin: f64,
    pub cost_margin: f64,
    pub error_slo: f64,
    pub latency_slo: f64,
    pub safety_slo: f64,
    pub tools_slo: f64,
    pub fallback_slo: f64,
    pub max_silent_units: u64,
    /// Units of both arms at which a decision is expected; where nothing is said it follows the
    /// recipe's `min_outcomes_per_step`.
    pub n_star: Option<f64>,
}

impl Default for PolicyDefaults {
    fn default() -> Self {
        let Policy {
            alpha_rollback,
            alpha_promote,
            alpha_slo,
            alpha_ratio,
            flag_margin,
            cost_margin,
            error_slo,
            latency_slo,
            safety_slo,
            tools_slo,
            fallback_slo,
            max_silent_units,
            ..
        } = Policy::default();
        Self {
            alpha_rollback,
            alpha_promote,
            alpha_slo,
            alpha_ratio,
            flag_margin,
            cost_margin,
            error_slo,
            latency_slo,
            safety_slo,
            tools_slo,
            fallback_slo,
            max_silent_units,
            n_star: None,
        }
    }
}

impl PolicyDefaults {
    /// Refuses numbers under which no release could be judged, naming the field.
    pub fn validate(&self) -> Result<(), RouterError> {
        self.policy().validate()
    }

    /// A policy that a recipe has said nothing to yet.
    pub(crate) fn policy(&self) -> Policy {
        let program = Policy::default();
        Policy {
            alpha_rollback: self.alpha_rollback,
            alpha_promote: self.alpha_promote,
            alpha_slo: self.alpha_slo,
            alpha_ratio: self.alpha_ratio,
            flag_margin: self.flag_margin,
            cost_margin: self.cost_margin,
            error_slo: self.error_slo,
            latency_slo: self.latency_slo,
            safety_slo: self.safety_slo,
            tools_slo: self.tools_slo,
            fallback_slo: self.fallback_slo,
            max_silent_units: self.max_silent_units,
            n_star: self.n_star.unwrap_or(program.n_star),
            ..program
        }
    }
}
