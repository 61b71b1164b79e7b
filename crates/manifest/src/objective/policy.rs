//! Losses over sampled replies with advantages: the GRPO family.

use serde::{Deserialize, Serialize};

use super::{
    CorrectionSettings, ImportanceCorrection, KlSettings, SettingError, ensure, not_negative,
    positive,
};

/// How a token's log-probability and advantage become a loss. Formulas:
/// `understudy_objective::policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyLoss {
    /// The clipped ratio of each token (GRPO, DAPO, Dr. GRPO differ by aggregation).
    #[default]
    Ppo,
    /// The clipped ratio of the whole sequence, as a geometric mean.
    Gspo,
    /// A capped ratio as a constant weight on the log-probability.
    Cispo,
    /// A soft gate in place of the clip.
    Sapo,
    /// GSPO summed over tokens, so that length doesn't dilute a sequence.
    Luspo,
    /// A gamma weight of the whole sequence's ratio.
    Vespo,
    /// Probability differences in place of ratios decide what is masked.
    Dppo,
    /// The log-probability times the advantage, reweighted by `correction`.
    Reinforce,
    /// Offline: pulled by the advantage, and back to the sampler by a quadratic.
    Dro,
}

impl PolicyLoss {
    pub const ALL: [Self; 9] = [
        Self::Ppo,
        Self::Gspo,
        Self::Cispo,
        Self::Sapo,
        Self::Luspo,
        Self::Vespo,
        Self::Dppo,
        Self::Reinforce,
        Self::Dro,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ppo => "ppo",
            Self::Gspo => "gspo",
            Self::Cispo => "cispo",
            Self::Sapo => "sapo",
            Self::Luspo => "luspo",
            Self::Vespo => "vespo",
            Self::Dppo => "dppo",
            Self::Reinforce => "reinforce",
            Self::Dro => "dro",
        }
    }

    /// Whether the ratio is one number per sequence.
    pub fn is_sequence_level(self) -> bool {
        matches!(self, Self::Gspo | Self::Luspo)
    }

    /// Whether `epsilon_low`, `epsilon_high`, `delta` and `dual_clip` apply.
    pub fn clips(self) -> bool {
        matches!(self, Self::Ppo | Self::Gspo | Self::Luspo)
    }

    /// Whether the ratio is to the sampler itself, so that there is nothing left to correct for.
    pub fn is_anchored_to_sampler(self) -> bool {
        matches!(self, Self::Dppo | Self::Reinforce | Self::Dro)
    }
}

/// What the summed token losses are divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aggregation {
    /// The mean over a sequence's tokens, then over sequences.
    Grpo,
    /// The mean over a micro-batch's tokens, then over micro-batches: depends on the split.
    Bnpo,
    /// The sum, over sequences times `max_completion_tokens`: no length bias.
    DrGrpo,
    /// The mean over all tokens of the optimiser step.
    #[default]
    Dapo,
    /// The sum over a sequence's tokens, then the mean over sequences.
    Luspo,
}

impl Aggregation {
    pub const ALL: [Self; 5] = [Self::Grpo, Self::Bnpo, Self::DrGrpo, Self::Dapo, Self::Luspo];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Grpo => "grpo",
            Self::Bnpo => "bnpo",
            Self::DrGrpo => "dr_grpo",
            Self::Dapo => "dapo",
            Self::Luspo => "luspo",
        }
    }
}

/// SAPO's temperatures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SapoSettings {
    /// τ where the advantage is more than 0.
    pub positive: f64,
    /// τ elsewhere.
    pub negative: f64,
}

impl Default for SapoSettings {
    fn default() -> Self {
        Self { positive: 1.0, negative: 1.05 }
    }
}

/// VESPO's weight `φ(w) = e^λ · w^k · e^(−λw)`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VespoSettings {
    /// k where the advantage is 0 or more.
    pub k_positive: f64,
    /// λ where the advantage is 0 or more.
    pub lambda_positive: f64,
    /// k elsewhere.
    pub k_negative: f64,
    /// λ elsewhere.
    pub lambda_negative: f64,
}

impl Default for VespoSettings {
    fn default() -> Self {
        Self { k_positive: 2.0, lambda_positive: 3.0, k_negative: 3.0, lambda_negative: 2.0 }
    }
}

/// The numbers of a policy stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "WrittenPolicy")]
pub struct PolicySettings {
    pub loss: PolicyLoss,
    pub aggregation: Aggregation,
    /// The ratio is clipped below `1 − epsilon_low`, where that would raise the objective.
    pub epsilon_low: f64,
    /// The ratio is clipped above `1 + epsilon_high`, where that would raise the objective.
    pub epsilon_high: f64,
    /// δ of two-sided clipping: the largest ratio under a negative advantage; 0 is off.
    pub delta: f64,
    /// c of dual clip: under a negative advantage the loss is at most `−c·A`; 0 is off.
    pub dual_clip: f64,
    /// CISPO: the largest ratio itself, as TRL's `epsilon_high`, not what is added to 1.
    pub ratio_cap: f64,
    pub kl: KlSettings,
    pub correction: CorrectionSettings,
    /// Off-policy sequence mask: a token with a negative advantage is dropped where its sequence
    /// has a mean of `μ − lp` above this; 0 is off.
    pub opsm_delta: f64,
    /// L_max of `dr_grpo`.
    pub max_completion_tokens: usize,
    pub sapo: SapoSettings,
    pub vespo: VespoSettings,
    /// DPPO: how far a probability may move before its token is masked.
    pub band: f64,
    /// The quadratic pull to the sampler: λ of DPPO's `λ(lp − μ)²`, β of DRO's `β/2·(lp − μ)²`.
    pub anchor: f64,
}

impl PolicySettings {
    /// The loss with its own usual numbers.
    pub fn for_loss(loss: PolicyLoss) -> Self {
        let (epsilon_low, epsilon_high) =
            if loss.is_sequence_level() { (3e-4, 4e-4) } else { (0.2, 0.28) };
        let aggregation = match loss {
            PolicyLoss::Gspo | PolicyLoss::Sapo => Aggregation::Grpo,
            PolicyLoss::Luspo => Aggregation::Luspo,
            _ => Aggregation::Dapo,
        };
        // DPPO and DRO have their own anchor, and their own ratio to the sampler.
        let is_self_anchored = matches!(loss, PolicyLoss::Dppo | PolicyLoss::Dro);
        let mut kl = KlSettings::default();
        let mut correction = CorrectionSettings::default();
        if is_self_anchored {
            kl.beta = 0.0;
            correction.mode = ImportanceCorrection::Off;
        }
        Self {
            loss,
            aggregation,
            epsilon_low,
            epsilon_high,
            delta: 0.0,
            dual_clip: if loss.clips() { 3.0 } else { 0.0 },
            ratio_cap: 5.0,
            kl,
            correction,
            opsm_delta: 0.0,
            max_completion_tokens: 1024,
            sapo: SapoSettings::default(),
            vespo: VespoSettings::default(),
            band: 0.2,
            anchor: if loss == PolicyLoss::Dro { 0.1 } else { 1e-3 },
        }
    }

    /// Refuses numbers the loss cannot work with, and features it would ignore.
    pub fn check(&self) -> Result<(), SettingError> {
        self.check_clip()?;
        not_negative("kl.beta", self.kl.beta)?;
        self.check_correction()?;
        not_negative("opsm_delta", self.opsm_delta)?;
        positive("ratio_cap", self.ratio_cap)?;
        positive("band", self.band)?;
        not_negative("anchor", self.anchor)?;
        positive("sapo.positive", self.sapo.positive)?;
        positive("sapo.negative", self.sapo.negative)?;
        not_negative("vespo.k_positive", self.vespo.k_positive)?;
        not_negative("vespo.k_negative", self.vespo.k_negative)?;
        positive("vespo.lambda_positive", self.vespo.lambda_positive)?;
        positive("vespo.lambda_negative", self.vespo.lambda_negative)?;
        ensure(self.max_completion_tokens > 0, "max_completion_tokens", "must be at least 1")
    }

    fn check_clip(&self) -> Result<(), SettingError> {
        ensure((0.0..=1.0).contains(&self.epsilon_low), "epsilon_low", "must be from 0 to 1")?;
        not_negative("epsilon_high", self.epsilon_high)?;
        for (key, value) in [("delta", self.delta), ("dual_clip", self.dual_clip)] {
            not_negative(key, value)?;
            ensure(
                value == 0.0 || self.loss.clips(),
                key,
                "only applies to losses ppo, gspo and luspo",
            )?;
            ensure(
                value == 0.0 || value > 1.0 + self.epsilon_high,
                key,
                "must be more than 1 + epsilon_high, or 0 for off",
            )?;
        }
        Ok(())
    }

    fn check_correction(&self) -> Result<(), SettingError> {
        let CorrectionSettings { mode, min, max } = self.correction;
        not_negative("correction.min", min)?;
        ensure(max.is_finite() && max > min, "correction.max", "must be more than correction.min")?;
        ensure(
            mode == ImportanceCorrection::Off
                || !matches!(self.loss, PolicyLoss::Dppo | PolicyLoss::Dro),
            "correction.mode",
            "must be \"off\" for dppo and dro, whose loss is already relative to the sampler",
        )
    }
}

impl Default for PolicySettings {
    fn default() -> Self {
        Self::for_loss(PolicyLoss::default())
    }
}

/// Settings as written in a recipe.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPolicy {
    #[serde(default)]
    loss: PolicyLoss,
    aggregation: Option<Aggregation>,
    epsilon_low: Option<f64>,
    epsilon_high: Option<f64>,
    delta: Option<f64>,
    dual_clip: Option<f64>,
    ratio_cap: Option<f64>,
    kl: Option<KlSettings>,
    correction: Option<CorrectionSettings>,
    opsm_delta: Option<f64>,
    max_completion_tokens: Option<usize>,
    sapo: Option<SapoSettings>,
    vespo: Option<VespoSettings>,
    band: Option<f64>,
    anchor: Option<f64>,
}

impl From<WrittenPolicy> for PolicySettings {
    fn from(written: WrittenPolicy) -> Self {
        let usual = Self::for_loss(written.loss);
        Self {
            loss: written.loss,
            aggregation: written.aggregation.unwrap_or(usual.aggregation),
            epsilon_low: written.epsilon_low.unwrap_or(usual.epsilon_low),
            epsilon_high: written.epsilon_high.unwrap_or(usual.epsilon_high),
            delta: written.delta.unwrap_or(usual.delta),
            dual_clip: written.dual_clip.unwrap_or(usual.dual_clip),
            ratio_cap: written.ratio_cap.unwrap_or(usual.ratio_cap),
            kl: written.kl.unwrap_or(usual.kl),
            correction: written.correction.unwrap_or(usual.correction),
            opsm_delta: written.opsm_delta.unwrap_or(usual.opsm_delta),
            max_completion_tokens: written
                .max_completion_tokens
                .unwrap_or(usual.max_completion_tokens),
            sapo: written.sapo.unwrap_or(usual.sapo),
            vespo: written.vespo.unwrap_or(usual.vespo),
            band: written.band.unwrap_or(usual.band),
            anchor: written.anchor.unwrap_or(usual.anchor),
        }
    }
}
