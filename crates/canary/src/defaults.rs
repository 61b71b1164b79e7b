//! What recipes do not say about the rules of a release: error rates, absolute limits and margins that
//! a deployment has once for all of them.

use serde::{Deserialize, Serialize};
use understudy_router::{Policy, RouterError};

/// Writes the fields that the router's policy has under the same names, once.
macro_rules! policy_defaults {
    ($($field:ident: $kind:ty,)*) => {
        /// `[release.policy]` of the configuration. What a recipe's `[release]` says is not among it.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct PolicyDefaults {
            $(pub $field: $kind,)*
            /// Units of both arms at which a decision is expected; where nothing is said it follows
            /// the recipe's `min_outcomes_per_step`.
            pub n_star: Option<f64>,
        }

        impl Default for PolicyDefaults {
            fn default() -> Self {
                let Policy { $($field,)* .. } = Policy::default();
                Self { $($field,)* n_star: None }
            }
        }

        impl PolicyDefaults {
            /// A policy that a recipe has said nothing to yet.
            pub(crate) fn policy(&self) -> Policy {
                let Self { $($field,)* n_star } = self.clone();
                let program = Policy::default();
                Policy { $($field,)* n_star: n_star.unwrap_or(program.n_star), ..program }
            }
        }
    };
}

policy_defaults! {
    alpha_rollback: f64,
    alpha_promote: f64,
    alpha_slo: f64,
    alpha_ratio: f64,
    flag_margin: f64,
    cost_margin: f64,
    error_slo: f64,
    latency_slo: f64,
    safety_slo: f64,
    tools_slo: f64,
    fallback_slo: f64,
    max_silent_units: u64,
}

impl PolicyDefaults {
    /// Refuses numbers under which no release could be judged, naming the field.
    pub fn validate(&self) -> Result<(), RouterError> {
        self.policy().validate()
    }
}
