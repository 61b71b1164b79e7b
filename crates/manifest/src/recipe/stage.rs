//! One `[[train]]` table: read flat, as a person writes it, and kept as what it means.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use super::grpo::{GroupSource, GrpoSettings};
use crate::{
    AdvantageSettings, LabelLoss, LabelSettings, PolicySettings, PreferenceSettings, SettingError,
};

/// One training stage. Unset values get the method's own default, so that the lineage of an
/// adapter never says "default".
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Map<String, Value>", into = "Map<String, Value>")]
pub struct TrainStage {
    pub method: Method,
    pub epochs: u32,
    /// What one optimiser step sees: examples (SFT), pairs (DPO), labelled replies (KTO), groups
    /// (GRPO).
    pub batch_size: usize,
    pub learning_rate: f64,
    /// Share of the steps over which the learning rate rises.
    pub warmup: f64,
    pub schedule: Schedule,
    pub weight_decay: f64,
    pub adam_beta2: f64,
    /// LoRA+: the learning rate of B over that of A; 1 is plain LoRA.
    pub loraplus_lr_ratio: f64,
    /// Largest global gradient norm.
    pub clip: f64,
    /// Rows longer than this many tokens are left out and counted.
    pub max_tokens: usize,
    /// Keep only what enters each layer and compute the rest again on the way back: a third slower,
    /// several times less memory. Rows too long for it otherwise are treated so in any case.
    pub gradient_checkpointing: bool,
    /// What DPO, KTO and a divergence penalty hold on to.
    pub reference: ReferencePolicy,
    /// The least dev score of the stage before; below it this stage is skipped. From a weak start,
    /// preferences and policy gradients were measured to make a small model worse.
    pub min_sft_score: f64,
    /// DPO: how many replies to sample at every logged prompt before the stage begins. Each that
    /// differs from the accepted one becomes a pair with it; 0 takes only the pairs of the dataset.
    pub mine: u32,
    /// What to do when a check of the run's health fails.
    pub health: BTreeMap<HealthCheck, Reaction>,
    pub objective: Objective,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    Sft,
    Dpo,
    Kto,
    Grpo,
}

impl Method {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sft => "sft",
            Self::Dpo => "dpo",
            Self::Kto => "kto",
            Self::Grpo => "grpo",
        }
    }
}

/// How the learning rate goes on after its warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// Half a cosine down to a tenth.
    Cosine,
    /// A line down to nothing.
    Linear,
    Constant,
}

/// The policy a stage holds on to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReferencePolicy {
    /// The policy as it stood when the stage began: with a fresh adapter that *is* the base, and
    /// with one that continues it keeps what earlier stages learnt.
    #[default]
    Start,
    /// The base with the adapter switched off, also when continuing. It counts everything earlier
    /// stages learnt as preference already won, and pulls back towards the base.
    AdapterOff,
}

/// Which replies of a conversation are imitated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Turns {
    #[default]
    All,
    Last,
}

/// What can go wrong without a number turning infinite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthCheck {
    /// The gradient's norm is far above its own past.
    GradientNorm,
    /// Chosen replies become less likely while margins grow.
    ChosenLogProb,
    /// The policy hardly chooses any more.
    Entropy,
    /// Too far from the reference.
    Kl,
    /// Trainer and sampler disagree about the same tokens.
    Ratio,
    /// Replies grow longer as rewards rise.
    Length,
    /// Attempts at a prompt are all the same: there is nothing left to compare.
    Collapse,
}

impl HealthCheck {
    pub const ALL: [Self; 7] = [
        Self::GradientNorm,
        Self::ChosenLogProb,
        Self::Entropy,
        Self::Kl,
        Self::Ratio,
        Self::Length,
        Self::Collapse,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::GradientNorm => "gradient_norm",
            Self::ChosenLogProb => "chosen_log_prob",
            Self::Entropy => "entropy",
            Self::Kl => "kl",
            Self::Ratio => "ratio",
            Self::Length => "length",
            Self::Collapse => "collapse",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reaction {
    Off,
    Warn,
    /// End the stage and keep the adapter of its last healthy step.
    Stop,
}

/// What a stage optimises.
#[derive(Debug, Clone, PartialEq)]
pub enum Objective {
    Sft { turns: Turns },
    Dpo(PreferenceSettings),
    Kto(LabelSettings),
    Grpo(Box<GrpoSettings>),
}

impl Objective {
    pub fn check(&self) -> Result<(), SettingError> {
        match self {
            Self::Sft { .. } => Ok(()),
            Self::Dpo(settings) => settings.check(),
            Self::Kto(settings) => settings.check(),
            Self::Grpo(settings) => settings.check(),
        }
    }

    /// Whether the policy is held to a reference, which then has to be asked.
    pub fn needs_reference(&self) -> bool {
        match self {
            Self::Sft { .. } => false,
            Self::Dpo(settings) => settings.loss.needs_reference(),
            Self::Kto(_) => true,
            Self::Grpo(settings) => settings.policy.kl.beta > 0.0,
        }
    }
}

/// The keys every method has.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Common {
    epochs: Option<u32>,
    batch_size: Option<usize>,
    learning_rate: Option<f64>,
    warmup: Option<f64>,
    schedule: Option<Schedule>,
    weight_decay: Option<f64>,
    adam_beta2: Option<f64>,
    loraplus_lr_ratio: Option<f64>,
    clip: Option<f64>,
    max_tokens: Option<usize>,
    gradient_checkpointing: Option<bool>,
    reference: Option<ReferencePolicy>,
    min_sft_score: Option<f64>,
    health: Option<BTreeMap<HealthCheck, Reaction>>,
}

const COMMON: &[&str] = &[
    "epochs",
    "batch_size",
    "learning_rate",
    "warmup",
    "schedule",
    "weight_decay",
    "adam_beta2",
    "loraplus_lr_ratio",
    "clip",
    "max_tokens",
    "gradient_checkpointing",
    "reference",
    "min_sft_score",
    "health",
];
const SFT: &[&str] = &["turns"];
const DPO: &[&str] =
    &["loss", "beta", "label_smoothing", "gamma", "sft_weight", "ld_alpha", "discopop_tau"];
const KTO: &[&str] = &["loss", "beta", "desirable_weight", "undesirable_weight"];
/// Of these, the second list is the policy's own.
const GRPO: &[&str] = &[
    "source",
    "environment",
    "group_size",
    "max_new_tokens",
    "temperature",
    "iterations",
    "constraint",
    "max_rounds",
    "rewards",
    "normalise_each",
    "advantage",
    "credit",
    "mask_truncated",
    "overlong_buffer",
    "allow_unsound",
];
const POLICY: &[&str] = &[
    "loss",
    "aggregation",
    "epsilon_low",
    "epsilon_high",
    "delta",
    "dual_clip",
    "ratio_cap",
    "kl",
    "correction",
    "opsm_delta",
    "sapo",
    "vespo",
    "band",
    "anchor",
];

impl Method {
    const ALL: [Self; 4] = [Self::Sft, Self::Dpo, Self::Kto, Self::Grpo];

    fn keys(self) -> Vec<&'static str> {
        match self {
            Self::Sft => SFT.to_vec(),
            Self::Dpo => [DPO, &["mine"]].concat(),
            Self::Kto => KTO.to_vec(),
            Self::Grpo => [GRPO, POLICY].concat(),
        }
    }
}

impl TryFrom<Map<String, Value>> for TrainStage {
    type Error = String;

    fn try_from(mut written: Map<String, Value>) -> Result<Self, String> {
        let Some(method) = written.remove("method") else { return Err(no_method(&written)) };
        let method: Method = read("method", method)?;
        refuse_foreign(method, &written)?;
        let mine = written.remove("mine").map(|value| read("mine", value)).transpose()?;
        let objective = objective(method, &mut written)?;
        let common: Common = read_table(written)?;
        let is_grpo = method == Method::Grpo;
        let (epochs, learning_rate, warmup) = match method {
            Method::Sft => (2, 2e-3, 0.03),
            Method::Dpo | Method::Kto => (1, 5e-5, 0.1),
            Method::Grpo => (1, 1e-4, 0.05),
        };
        let default_schedule = if is_grpo { Schedule::Constant } else { Schedule::Cosine };
        let mut health = default_health(method);
        health.extend(common.health.unwrap_or_default());
        Ok(Self {
            method,
            epochs: common.epochs.unwrap_or(epochs),
            batch_size: common.batch_size.unwrap_or(8),
            learning_rate: common.learning_rate.unwrap_or(learning_rate),
            warmup: common.warmup.unwrap_or(warmup),
            schedule: common.schedule.unwrap_or(default_schedule),
            weight_decay: common.weight_decay.unwrap_or(0.0),
            adam_beta2: common.adam_beta2.unwrap_or(if is_grpo { 0.99 } else { 0.999 }),
            loraplus_lr_ratio: common.loraplus_lr_ratio.unwrap_or(1.0),
            clip: common.clip.unwrap_or(if is_grpo { 0.5 } else { 1.0 }),
            max_tokens: common.max_tokens.unwrap_or(1024),
            gradient_checkpointing: common.gradient_checkpointing.unwrap_or(false),
            reference: common.reference.unwrap_or_default(),
            min_sft_score: common.min_sft_score.unwrap_or(0.0),
            mine: mine.unwrap_or(0),
            health,
            objective,
        })
    }
}

/// Everything is watched; what has been measured to ruin a run without a way back stops it.
fn default_health(method: Method) -> BTreeMap<HealthCheck, Reaction> {
    let applies = |check: &HealthCheck| match method {
        Method::Sft | Method::Kto => *check == HealthCheck::GradientNorm,
        Method::Dpo => matches!(check, HealthCheck::GradientNorm | HealthCheck::ChosenLogProb),
        Method::Grpo => *check != HealthCheck::ChosenLogProb,
    };
    let reaction = |check: HealthCheck| match check {
        HealthCheck::Collapse => Reaction::Stop,
        _ => Reaction::Warn,
    };
    HealthCheck::ALL.into_iter().filter(applies).map(|check| (check, reaction(check))).collect()
}

/// Without a method there is most likely a misspelt one.
fn no_method(written: &Map<String, Value>) -> String {
    let every = Method::ALL.iter().flat_map(|method| method.keys());
    let known: Vec<&str> = COMMON.iter().copied().chain(every).collect();
    match written.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => format!("unknown field `{key}`, expected one of `method`, {}", listed(COMMON)),
        None => "missing field `method`".to_owned(),
    }
}

fn listed(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

/// A key that belongs to another method, or to none, is an error that says which.
fn refuse_foreign(method: Method, written: &Map<String, Value>) -> Result<(), String> {
    let own = method.keys();
    for key in written.keys() {
        if own.contains(&key.as_str()) || COMMON.contains(&key.as_str()) {
            continue;
        }
        let owners = Method::ALL.into_iter().filter(|other| other.keys().contains(&key.as_str()));
        let owners: Vec<String> = owners.map(|m| format!("method = \"{}\"", m.as_str())).collect();
        if !owners.is_empty() {
            return Err(format!("`{key}` only applies to {}", owners.join(" or ")));
        }
        let known = [COMMON, &own].concat();
        return Err(format!("unknown field `{key}`, expected one of {}", listed(&known)));
    }
    Ok(())
}

fn objective(method: Method, written: &mut Map<String, Value>) -> Result<Objective, String> {
    let mut take = |keys: &[&str]| -> Map<String, Value> {
        let own = keys.iter().filter_map(|key| Some(((*key).to_owned(), written.remove(*key)?)));
        own.collect()
    };
    Ok(match method {
        Method::Sft => {
            let turns = take(SFT).remove("turns").map(|value| read("turns", value)).transpose()?;
            Objective::Sft { turns: turns.unwrap_or_default() }
        }
        Method::Dpo => Objective::Dpo(read_table(take(DPO))?),
        Method::Kto => {
            let mut own = take(KTO);
            own.entry("loss").or_insert_with(|| json!(LabelLoss::Kto));
            Objective::Kto(read_table::<LabelSettings>(own)?)
        }
        Method::Grpo => {
            let (mut own, policy) = (take(GRPO), take(POLICY));
            let mut policy: PolicySettings = read_table(policy)?;
            if let Some(advantage) = own.get_mut("advantage") {
                *advantage = json!(advantage_of(advantage.take())?);
            }
            let mut resolved = json!(GrpoSettings::default());
            if let Some(resolved) = resolved.as_object_mut() {
                resolved.extend(own);
                policy.max_completion_tokens =
                    resolved["max_new_tokens"].as_u64().unwrap_or(1) as usize;
                resolved.insert("policy".to_owned(), json!(policy));
            }
            let mut settings: GrpoSettings = read("rewards", resolved)?;
            if settings.source == GroupSource::Logged && settings.policy.delta == 0.0 {
                // Nothing else bounds a push against a reply the policy no longer gives.
                settings.policy.opsm_delta = settings.policy.opsm_delta.max(0.5);
            }
            Objective::Grpo(Box::new(settings))
        }
    })
}

/// A preset by name, or a table.
fn advantage_of(written: Value) -> Result<AdvantageSettings, String> {
    match written.as_str() {
        Some("trl") => Ok(AdvantageSettings::trl()),
        Some("art") => Ok(AdvantageSettings::art()),
        Some("verl") => Ok(AdvantageSettings::verl()),
        Some(other) => {
            Err(format!("`advantage` names no preset {other:?}; there are trl, art and verl"))
        }
        None => read("advantage", written),
    }
}

fn read<T: DeserializeOwned>(key: &str, value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|error| {
        let error = error.to_string();
        // What names its own key or word says more than the table it stands in.
        if error.starts_with("unknown") { error } else { format!("`{key}` {error}") }
    })
}

fn read_table<T: DeserializeOwned>(table: Map<String, Value>) -> Result<T, String> {
    // One key at a time first, so that a wrong type is reported under its own name.
    for (key, value) in &table {
        let alone = Map::from_iter([(key.clone(), value.clone())]);
        if let Err(error) = serde_json::from_value::<T>(Value::Object(alone)) {
            let error = error.to_string();
            return Err(if error.starts_with("unknown") {
                error
            } else {
                format!("`{key}` has {error}")
            });
        }
    }
    serde_json::from_value(Value::Object(table)).map_err(|error| error.to_string())
}

impl From<TrainStage> for Map<String, Value> {
    fn from(stage: TrainStage) -> Self {
        let common = Common {
            epochs: Some(stage.epochs),
            batch_size: Some(stage.batch_size),
            learning_rate: Some(stage.learning_rate),
            warmup: Some(stage.warmup),
            schedule: Some(stage.schedule),
            weight_decay: Some(stage.weight_decay),
            adam_beta2: Some(stage.adam_beta2),
            loraplus_lr_ratio: Some(stage.loraplus_lr_ratio),
            clip: Some(stage.clip),
            max_tokens: Some(stage.max_tokens),
            gradient_checkpointing: Some(stage.gradient_checkpointing),
            reference: Some(stage.reference),
            min_sft_score: Some(stage.min_sft_score),
            health: Some(stage.health),
        };
        let own = match &stage.objective {
            Objective::Sft { turns } => json!({"turns": turns}),
            Objective::Dpo(settings) => {
                let mut whole = json!(settings);
                whole["mine"] = json!(stage.mine);
                whole
            }
            Objective::Kto(settings) => json!(settings),
            Objective::Grpo(settings) => {
                let mut whole = json!(settings);
                let table = whole.as_object_mut().map(std::mem::take).unwrap_or_default();
                let (mut flat, mut policy) = (Map::new(), Map::new());
                for (key, value) in table {
                    match value {
                        Value::Object(inner) if key == "policy" => policy = inner,
                        value => drop(flat.insert(key, value)),
                    }
                }
                // It follows from max_new_tokens.
                policy.remove("max_completion_tokens");
                flat.extend(policy);
                Value::Object(flat)
            }
        };
        let mut written = Self::from_iter([("method".to_owned(), json!(stage.method))]);
        for part in [json!(common), own] {
            if let Value::Object(part) = part {
                written.extend(part);
            }
        }
        written
    }
}

#[cfg(test)]
mod tests;
