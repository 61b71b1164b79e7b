//! Losses over pairs (one reply preferred to another) and over single labelled replies.

use serde::{Deserialize, Serialize};

use super::{SettingError, ensure, not_negative, positive};

/// How a pair of replies becomes a loss. Formulas: `understudy_objective::preference`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PreferenceLoss {
    /// DPO (Rafailov et al. 2023).
    #[default]
    Sigmoid,
    /// Conservative DPO: labels are wrong with probability `label_smoothing`.
    Cdpo,
    /// DPO made unbiased under labels flipped with probability `label_smoothing`.
    Robust,
    /// SLiC: a hinge on the margin.
    Hinge,
    /// IPO (Azar et al. 2023), with length-normalised log-ratios.
    Ipo,
    /// DPO on length-normalised log-ratios.
    SigmoidNorm,
    /// APO-zero: chosen up, rejected down, each by itself.
    ApoZero,
    /// APO-down: both down, rejected more. For chosen replies worse than the policy's own.
    ApoDown,
    /// Binary classifier optimisation, with the reward shift δ = 0.
    BcoPair,
    /// Noise contrastive alignment.
    NcaPair,
    /// Self-play preference optimisation with hard labels.
    SppoHard,
    /// Efficient exact optimisation; needs `label_smoothing` > 0.
    ExoPair,
    /// DiscoPOP's discovered blend of logistic and exponential loss.
    Discopop,
    /// SimPO: length-normalised, no reference, a target margin `gamma`.
    Simpo,
    /// CPO: no reference, imitation of the chosen reply added.
    Cpo,
    /// ORPO: odds ratio, no reference, imitation of the chosen reply added.
    Orpo,
}

impl PreferenceLoss {
    pub const ALL: [Self; 16] = [
        Self::Sigmoid,
        Self::Cdpo,
        Self::Robust,
        Self::Hinge,
        Self::Ipo,
        Self::SigmoidNorm,
        Self::ApoZero,
        Self::ApoDown,
        Self::BcoPair,
        Self::NcaPair,
        Self::SppoHard,
        Self::ExoPair,
        Self::Discopop,
        Self::Simpo,
        Self::Cpo,
        Self::Orpo,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sigmoid => "sigmoid",
            Self::Cdpo => "cdpo",
            Self::Robust => "robust",
            Self::Hinge => "hinge",
            Self::Ipo => "ipo",
            Self::SigmoidNorm => "sigmoid_norm",
            Self::ApoZero => "apo_zero",
            Self::ApoDown => "apo_down",
            Self::BcoPair => "bco_pair",
            Self::NcaPair => "nca_pair",
            Self::SppoHard => "sppo_hard",
            Self::ExoPair => "exo_pair",
            Self::Discopop => "discopop",
            Self::Simpo => "simpo",
            Self::Cpo => "cpo",
            Self::Orpo => "orpo",
        }
    }

    /// Whether replies are measured against a frozen reference model.
    pub fn needs_reference(self) -> bool {
        !matches!(self, Self::Simpo | Self::Cpo | Self::Orpo)
    }

    /// Whether `label_smoothing` means anything to it.
    pub fn smooths_labels(self) -> bool {
        matches!(self, Self::Cdpo | Self::Robust | Self::ExoPair | Self::Simpo | Self::Cpo)
    }
}

/// The numbers of a preference stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "WrittenPreference")]
pub struct PreferenceSettings {
    pub loss: PreferenceLoss,
    /// β: how strongly to hold on to the reference; the scale of the implicit reward.
    pub beta: f64,
    /// ε: how often a label is taken to be wrong, from 0 to less than 0.5.
    pub label_smoothing: f64,
    /// γ: the margin SimPO asks for, after β.
    pub gamma: f64,
    /// Weight of an added imitation loss: the mean over the step's chosen tokens.
    pub sft_weight: f64,
    /// LD-DPO's α: the weight of tokens beyond the shorter reply's length; 1 is plain DPO.
    pub ld_alpha: f64,
    /// DiscoPOP's temperature τ.
    pub discopop_tau: f64,
}

impl PreferenceSettings {
    /// The loss with its own usual numbers.
    pub fn for_loss(loss: PreferenceLoss) -> Self {
        let (beta, gamma) = match loss {
            PreferenceLoss::Simpo => (2.0, 0.5),
            _ => (0.1, 0.0),
        };
        let label_smoothing = match loss {
            PreferenceLoss::Cdpo | PreferenceLoss::Robust => 0.1,
            PreferenceLoss::ExoPair => 1e-3,
            _ => 0.0,
        };
        let sft_weight = match loss {
            PreferenceLoss::Cpo | PreferenceLoss::Orpo => 1.0,
            _ => 0.0,
        };
        let (ld_alpha, discopop_tau) = (1.0, 0.05);
        Self { loss, beta, label_smoothing, gamma, sft_weight, ld_alpha, discopop_tau }
    }

    /// Refuses numbers the loss cannot work with, and those it would ignore.
    pub fn check(&self) -> Result<(), SettingError> {
        positive("beta", self.beta)?;
        positive("discopop_tau", self.discopop_tau)?;
        not_negative("sft_weight", self.sft_weight)?;
        not_negative("gamma", self.gamma)?;
        ensure(
            self.gamma == 0.0 || self.loss == PreferenceLoss::Simpo,
            "gamma",
            "only applies to loss = \"simpo\"",
        )?;
        ensure(
            (0.0..0.5).contains(&self.label_smoothing),
            "label_smoothing",
            "must be from 0 to less than 0.5",
        )?;
        ensure(
            self.label_smoothing == 0.0 || self.loss.smooths_labels(),
            "label_smoothing",
            "only applies to losses cdpo, robust, exo_pair, simpo and cpo",
        )?;
        ensure(
            self.label_smoothing > 0.0 || self.loss != PreferenceLoss::ExoPair,
            "label_smoothing",
            "must be more than 0 for exo_pair, which takes its logarithm",
        )?;
        ensure((0.0..=1.0).contains(&self.ld_alpha), "ld_alpha", "must be from 0 to 1")?;
        ensure(
            self.ld_alpha == 1.0 || self.loss.needs_reference(),
            "ld_alpha",
            "only applies to losses with a reference",
        )
    }
}

impl Default for PreferenceSettings {
    fn default() -> Self {
        Self::for_loss(PreferenceLoss::default())
    }
}

/// Settings as written in a recipe.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPreference {
    #[serde(default)]
    loss: PreferenceLoss,
    beta: Option<f64>,
    label_smoothing: Option<f64>,
    gamma: Option<f64>,
    sft_weight: Option<f64>,
    ld_alpha: Option<f64>,
    discopop_tau: Option<f64>,
}

impl From<WrittenPreference> for PreferenceSettings {
    fn from(written: WrittenPreference) -> Self {
        let usual = Self::for_loss(written.loss);
        Self {
            loss: written.loss,
            beta: written.beta.unwrap_or(usual.beta),
            label_smoothing: written.label_smoothing.unwrap_or(usual.label_smoothing),
            gamma: written.gamma.unwrap_or(usual.gamma),
            sft_weight: written.sft_weight.unwrap_or(usual.sft_weight),
            ld_alpha: written.ld_alpha.unwrap_or(usual.ld_alpha),
            discopop_tau: written.discopop_tau.unwrap_or(usual.discopop_tau),
        }
    }
}

/// How one reply with a thumb up or down becomes a loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LabelLoss {
    /// KTO (Ethayarajh et al. 2024); its baseline needs a batch of at least four.
    Kto,
    /// APO-zero for single replies: no baseline, so it is right for tiny batches.
    #[default]
    ApoZeroUnpaired,
}

impl LabelLoss {
    pub const ALL: [Self; 2] = [Self::Kto, Self::ApoZeroUnpaired];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kto => "kto",
            Self::ApoZeroUnpaired => "apo_zero_unpaired",
        }
    }

    /// Whether it needs log-ratios of mismatched prompts and replies.
    pub fn needs_baseline(self) -> bool {
        self == Self::Kto
    }
}

/// The numbers of a stage on labelled replies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LabelSettings {
    pub loss: LabelLoss,
    /// β: how strongly to hold on to the reference.
    pub beta: f64,
    /// w_D. Keep `(w_D·n_D) / (w_U·n_U)` from 1 to 4/3.
    pub desirable_weight: f64,
    /// w_U
    pub undesirable_weight: f64,
}

impl LabelSettings {
    pub fn check(&self) -> Result<(), SettingError> {
        positive("beta", self.beta)?;
        not_negative("desirable_weight", self.desirable_weight)?;
        not_negative("undesirable_weight", self.undesirable_weight)
    }
}

impl Default for LabelSettings {
    fn default() -> Self {
        let loss = LabelLoss::default();
        Self { loss, beta: 0.1, desirable_weight: 1.0, undesirable_weight: 1.0 }
    }
}
