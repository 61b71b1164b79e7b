//! The rules of one release: what the recipe says, as the router and the reward policy take it.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use understudy_ident::{Digest, ReleaseId, TaskName};
use understudy_manifest::{Escalate, Fallback, Observe, Release};
use understudy_registry::ReleaseRecord;
use understudy_router::{
    Exposure, Observed, Policy, RouterError, Salt, Shadowed, Steps, Support, Tap, Target,
};
use understudy_trajectory::RewardPolicy;

use crate::{CanaryError, PolicyDefaults};

/// A fortnight, after which a person decides where the recipe names no other time.
const LONGEST_S: u64 = 14 * 24 * 3600;

/// Kept with the release, as they were when it started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    pub policy: Policy,
    /// The reward policy, `name@version`.
    pub reward: String,
    /// Where nothing is said, what was served before decides; see [`LatencyLimits`](crate::LatencyLimits).
    #[serde(default)]
    pub latency_slo_ms: Option<f64>,
    #[serde(default)]
    pub first_token_slo_ms: Option<f64>,
    pub tap: Exposure,
    /// A reply of more tokens counts against the length guard.
    #[serde(default)]
    pub long_reply_tokens: Option<u32>,
    #[serde(default)]
    pub observe: Option<Observe>,
    #[serde(default)]
    pub escalate: Option<Escalate>,
    #[serde(default)]
    pub shadow: Option<Exposure>,
    #[serde(default)]
    pub fallback: Vec<Fallback>,
}

impl Rules {
    /// The rules of a recipe, with the program's defaults for what it does not say.
    pub fn of(release: &Release, reward: RewardPolicy) -> Result<Self, RouterError> {
        Self::under(&PolicyDefaults::default(), release, reward)
    }

    /// The same with a deployment's defaults.
    pub fn under(
        defaults: &PolicyDefaults,
        release: &Release,
        reward: RewardPolicy,
    ) -> Result<Self, RouterError> {
        // Bounds are tightest where a decision is expected: a few times the first step's outcomes.
        let usual = (10 * release.min_outcomes_per_step).clamp(200, 5_000) as f64;
        let n_star = defaults.n_star.unwrap_or(usual);
        let policy = Policy {
            steps: Steps::new(release.steps.clone())?,
            min_outcomes_per_step: release.min_outcomes_per_step,
            margin: release.margin.into(),
            n_star,
            rollback_on: release.rollback_on.clone(),
            max_units: release.max_outcomes,
            min_step_ms: release.min_step_s.saturating_mul(1000),
            max_age_ms: Some(release.max_age_s.unwrap_or(LONGEST_S).saturating_mul(1000)),
            maturation_ms: release.maturation_s.saturating_mul(1000),
            missing: release.missing,
            on_small_harm: release.on_small_harm,
            cost_cap: release.cost_cap,
            ..defaults.policy()
        };
        policy.validate()?;
        Ok(Self {
            policy,
            reward: reward.id().to_owned(),
            latency_slo_ms: release.latency_slo_ms,
            first_token_slo_ms: release.first_token_slo_ms,
            tap: Exposure::new(release.tap)?,
            long_reply_tokens: release.long_reply_tokens,
            observe: release.observe.clone(),
            escalate: release.escalate.clone(),
            shadow: release
                .shadow
                .as_ref()
                .map(|shadow| Exposure::new(shadow.share))
                .transpose()?,
            fallback: release.fallback.clone(),
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

    /// Who stands beside the arms; `candidate` is who may be watched, while a release is under way.
    pub(crate) fn support(&self, task: &TaskName, candidate: Option<Target>) -> Support {
        let observe = self
            .observe
            .clone()
            .map(|rules| Observed { rules, salt: salt_of(&format!("observe {task}")) });
        let shadow = candidate.zip(self.shadow).map(|(target, share)| Shadowed {
            target,
            share,
            salt: salt_of(&format!("shadow {task}")),
        });
        let (escalate, fallback) = (self.escalate.clone(), self.fallback.clone());
        Support { observe, escalate, shadow, fallback }
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
