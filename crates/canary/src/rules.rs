//! The rules of one release: what the recipe says, as the router and the reward policy take it.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use understudy_ident::{Digest, ReleaseId, TaskName};
use understudy_manifest::Release;
use understudy_registry::ReleaseRecord;
use understudy_router::{Exposure, Policy, RouterError, Salt, Steps, Tap};
use understudy_trajectory::RewardPolicy;

use crate::CanaryError;

/// Kept with the release, as they were when it started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    pub policy: Policy,
    /// The reward policy, `name@version`.
    pub reward: String,
    pub latency_slo_ms: f64,
    pub tap: Exposure,
}

impl Rules {
    pub fn of(release: &Release, reward: RewardPolicy) -> Result<Self, RouterError> {
        // Bounds are tightest where a decision is expected: a few times the first step's outcomes.
        let n_star = (10 * release.min_outcomes_per_step).clamp(200, 5_000) as f64;
        let policy = Policy {
            steps: Steps::new(release.steps.clone())?,
            min_outcomes_per_step: release.min_outcomes_per_step,
            margin: release.margin.into(),
            n_star,
            rollback_on: release.rollback_on.clone(),
            max_units: release.max_outcomes,
            min_step_ms: release.min_step_s.saturating_mul(1000),
            max_age_ms: release.max_age_s.map(|seconds| seconds.saturating_mul(1000)),
            maturation_ms: release.maturation_s.saturating_mul(1000),
            missing: release.missing,
            on_small_harm: release.on_small_harm,
            cost_cap: release.cost_cap,
            ..Policy::default()
        };
        policy.validate()?;
        Ok(Self {
            policy,
            reward: reward.id().to_owned(),
            latency_slo_ms: release.latency_slo_ms,
            tap: Exposure::new(release.tap)?,
        })
    }

    /// As the registry keeps them.
    pub fn to_value(&self) -> Value {
        serde_json::to_value(self).expect("rules have text keys and finite numbers")
    }

    pub(crate) fn read(release: &ReleaseRecord) -> Result<Self, CanaryError> {
        serde_json::from_value(release.policy.clone()).map_err(|why| CanaryError::Unreadable {
            release: release.id.to_string(),
            why: why.to_string(),
        })
    }

    pub(crate) fn reward_policy(&self) -> RewardPolicy {
        // `of` wrote the name of a policy that exists; a newer program keeps reading older names.
        RewardPolicy::named(&self.reward).unwrap_or(RewardPolicy::DefaultV1)
    }

    /// The teacher's constant share. Its salt belongs to the task, so that who is tapped does not
    /// change with releases.
    pub(crate) fn tap(&self, task: &TaskName) -> Option<Tap> {
        let salt = salt_of(&format!("tap {task}"));
        (self.tap > Exposure::NONE).then_some(Tap { share: self.tap, salt })
    }
}

/// A salt nobody has used before, so that successive releases do not meet the same units first.
pub fn fresh_salt() -> Salt {
    salt_of(ReleaseId::generate().as_str())
}

fn salt_of(text: &str) -> Salt {
    let digest = Digest::of(text.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.as_bytes()[..16]);
    Salt::new(bytes)
}
