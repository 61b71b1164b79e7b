//! A recipe: one TOML file from data to release.

mod card;
mod check;
mod grpo;
mod locate;
mod release;
mod stage;
mod tap;
mod unattended;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use understudy_ident::{Digest, TaskName};

use crate::{Scorer, digest_json};

pub use card::CardSettings;
pub use check::{RecipeError, parse_age};
pub use grpo::{Credit, GroupSource, GrpoSettings, RolloutConstraint};
pub use release::{Guard, MissingReward, Release, SmallHarm};
pub use stage::{
    HealthCheck, Method, Objective, Reaction, ReferencePolicy, Schedule, TrainStage, Turns,
};
pub use tap::{Cue, Escalate, Exhausted, Fallback, Observe, Shadow};
pub use unattended::{ApprovalStep, Pause, QuietHours, Unattended, UtcOffset};

/// Everything a run needs to know, with every default filled in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    pub schema: u32,
    pub task: TaskName,
    /// A catalog name, a GGUF file or a Hugging Face directory.
    pub base: String,
    #[serde(default = "default_seed")]
    pub seed: u64,
    #[serde(default)]
    pub data: Data,
    #[serde(default)]
    pub lora: Lora,
    /// How the frozen base is held while training.
    #[serde(default)]
    pub precision: Precision,
    /// In order; each continues from the best one so far on the dev split, which is kept.
    pub train: Vec<TrainStage>,
    /// Without one the adapter is trained and registered, but can't be released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Gate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Release>,
    /// When runs begin without anyone asking; without it, never.
    #[serde(default, rename = "loop", skip_serializing_if = "Option::is_none")]
    pub unattended: Option<Unattended>,
}

impl Recipe {
    pub const SCHEMA: u32 = 1;

    /// Reads a recipe; `file` is only for messages.
    pub fn parse(file: &str, text: &str) -> Result<Self, RecipeError> {
        let recipe: Self =
            toml::from_str(text).map_err(|error| check::explain(file, text, &error))?;
        check::validate(file, text, &recipe)?;
        Ok(recipe)
    }

    /// The digest of the resolved recipe: comments and spelling of defaults do not matter, and
    /// neither does when a run begins, which is no part of what it does.
    pub fn digest(&self) -> Digest {
        digest_json(&Self { unattended: None, ..self.clone() })
    }
}

/// How the weights of the frozen base are held. Adapters, their gradients and the optimiser are f32
/// in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    F32,
    /// Half the memory and, with the instructions for it, twice the speed; f32 where a processor
    /// lacks them.
    #[default]
    Bf16,
    /// Eight bits in blocks of 32: a quarter of the memory of f32, for training where memory is
    /// what is short. Sampling from it is slow.
    Q8_0,
    /// Four bits in blocks of 32: an eighth of the memory of f32.
    Q4_1,
}

/// Where examples come from and what is kept of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Data {
    pub source: DataSource,
    /// Only what is younger: `30d`, `12h`, `45m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// The reward policy, by name.
    pub reward: String,
    /// A reply whose reward is at least this may be imitated.
    pub min_reward: f64,
    pub redact: Redact,
    /// Which repetitions are left out.
    #[serde(skip_serializing_if = "Dedupe::is_default")]
    pub dedupe: Dedupe,
    /// The share of sessions kept for the dev split.
    pub holdout: f64,
    /// Refuse to train on fewer examples with a verified outcome than this.
    pub min_verified: u64,
    /// Take at most this many examples, the newest ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// The share of `limit` that is drawn from everything older instead, evenly over time, so that
    /// what is hardly asked any more is not forgotten.
    #[serde(skip_serializing_if = "is_zero")]
    pub replay: f64,
    /// Take at most this many steps of one subject, the newest ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_per_subject: Option<u64>,
    /// Keep what was asked as well, each prompt once, whatever was said of its reply.
    #[serde(skip_serializing_if = "is_false")]
    pub prompts: bool,
    /// Take at most this many steps whose last turns are near-duplicates, the newest ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_per_prompt: Option<u64>,
    /// Take at most this many steps with the same answer, the newest ones: where answers are few,
    /// they are the classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_per_answer: Option<u64>,
    /// Take at most this many steps that call one tool, the newest ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_per_tool: Option<u64>,
    /// Take at most this many steps that one base, adapter or teacher answered, the newest ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_per_model: Option<u64>,
    /// Of labels, at most so many that say one thing for each that says the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_label_ratio: Option<f64>,
    /// The share of steps, the newest ones, whose sessions are kept for the dev split beside those
    /// of `holdout`.
    #[serde(skip_serializing_if = "is_zero")]
    pub holdout_newest: f64,
    /// The share of examples whose prompt carries the lessons that fit it, as a request's would.
    #[serde(skip_serializing_if = "is_zero")]
    pub memory_slot: f64,
    /// The share of the steps that any one subject may make, the newest ones; 1 for all of them. Of
    /// few subjects each may make more.
    #[serde(skip_serializing_if = "is_usual_share")]
    pub max_subject_share: f64,
    /// Leave out what the client said this of, in the metadata of its request: `training = "no"`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub exclude: BTreeMap<String, String>,
    /// Leave out what is told to be in another language, by its two letters: `en`, `de`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub languages: Vec<String>,
    /// Leave out what was asked in more tokens of the base than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_prompt_tokens: Option<u64>,
    /// Leave out replies of fewer tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_reply_tokens: Option<u64>,
    /// Leave out replies of more tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_reply_tokens: Option<u64>,
    /// What the card says that no counting can tell.
    #[serde(skip_serializing_if = "CardSettings::is_empty")]
    pub card: CardSettings,
}

/// A recipe that says nothing about a setting has the digest it had before there was one.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_zero(share: &f64) -> bool {
    *share == 0.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_false(setting: &bool) -> bool {
    !*setting
}

/// Of the steps of a version, those of one subject.
const USUAL_SHARE: f64 = 0.01;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_usual_share(share: &f64) -> bool {
    *share == USUAL_SHARE
}

impl Default for Data {
    fn default() -> Self {
        Self {
            source: DataSource::Journal,
            since: None,
            reward: "default".to_owned(),
            min_reward: 0.9,
            redact: Redact::Standard,
            dedupe: Dedupe::default(),
            holdout: 0.2,
            min_verified: 1,
            limit: None,
            replay: 0.0,
            max_per_subject: None,
            prompts: false,
            max_per_prompt: None,
            max_per_answer: None,
            max_per_tool: None,
            max_per_model: None,
            max_label_ratio: None,
            holdout_newest: 0.0,
            memory_slot: 0.0,
            max_subject_share: USUAL_SHARE,
            exclude: BTreeMap::new(),
            languages: Vec::new(),
            max_prompt_tokens: None,
            min_reply_tokens: None,
            max_reply_tokens: None,
            card: CardSettings::default(),
        }
    }
}

/// `"journal"`, or a dataset version already frozen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataSource {
    Journal,
    Version(understudy_ident::DatasetVersion),
}

impl Serialize for DataSource {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Journal => to.serialize_str("journal"),
            Self::Version(version) => to.collect_str(version),
        }
    }
}

impl<'de> Deserialize<'de> for DataSource {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        if text == "journal" {
            return Ok(Self::Journal);
        }
        text.parse().map(Self::Version).map_err(|_| {
            serde::de::Error::custom(format!(
                "source `{text}` is neither \"journal\" nor a dataset version name@digest \
                 (bring a file in with `understudy import` first)"
            ))
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Redact {
    /// E-mail, phone, card, keys; names where a model is configured or they are on record.
    Standard,
    /// The same, and where no model is configured names by what stands around them.
    Names,
    /// Nothing is masked; the dataset's manifest says so.
    Off,
}

/// Which rows repeat an older one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dedupe {
    /// Those whose last turn and answer are all but the same.
    #[default]
    Near,
    /// Only those that are the same.
    Exact,
}

impl Dedupe {
    /// A recipe that says nothing about it has the digest it always had.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
    fn is_default(&self) -> bool {
        *self == Self::Near
    }
}

/// The shape of the adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lora {
    pub rank: usize,
    pub alpha: f64,
    pub targets: Targets,
    /// rsLoRA: the scale is alpha / √rank instead of alpha / rank.
    pub rank_stabilised: bool,
    /// The share of an adapter's inputs zeroed while training; the base always reads all of them.
    pub dropout: f64,
    /// Other ranks for some modules, by the end of their path: `"q_proj"`, `"layers.3.mlp.up_proj"`.
    pub rank_pattern: BTreeMap<String, usize>,
    /// Other alphas, likewise.
    pub alpha_pattern: BTreeMap<String, f64>,
}

impl Default for Lora {
    fn default() -> Self {
        Self {
            rank: 16,
            alpha: 32.0,
            targets: Targets::AllLinear,
            rank_stabilised: false,
            dropout: 0.0,
            rank_pattern: BTreeMap::new(),
            alpha_pattern: BTreeMap::new(),
        }
    }
}

/// Which linear layers carry an adapter; never the embedding or the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Targets {
    AllLinear,
    Attention,
    Mlp,
}

/// What a candidate must show before it may meet a user.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// A suite by name.
    pub suite: TaskName,
    #[serde(default)]
    pub verdict: RequiredVerdict,
    /// How much worse than the baseline still counts as non-inferior.
    #[serde(default = "default_gate_margin")]
    pub margin: f64,
    /// The scorer the verdict is about; the suite's first when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scorer: Option<Scorer>,
    /// Median latency of the candidate over the baseline's, at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ratio_max: Option<f64>,
    /// The same for the latency that 95 % of requests stay within.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_p95_ratio_max: Option<f64>,
    /// Tokens read and written by the candidate over the baseline's, at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_ratio_max: Option<f64>,
    /// Money that the candidate's answers cost over the baseline's, at most; where it is not known of
    /// both, tokens stand for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_ratio_max: Option<f64>,
    /// How many of the cases marked `known_failure` the candidate must get right, at least.
    #[serde(default, skip_serializing_if = "crate::report::is_zero")]
    pub known_failures_fixed: u64,
    #[serde(default = "default_max_new_tokens")]
    pub max_new_tokens: u32,
    /// What tokens cost, for `cost_ratio_max` and the scorer `cost`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prices: Option<Prices>,
}

/// In dollars for a million tokens, which is millionths of a dollar for one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    pub input_usd_per_million: f64,
    pub output_usd_per_million: f64,
}

impl Prices {
    /// In millionths of a dollar, rounded up.
    pub fn of(&self, input_tokens: u64, output_tokens: u64) -> u64 {
        let input = input_tokens as f64 * self.input_usd_per_million;
        (input + output_tokens as f64 * self.output_usd_per_million).ceil() as u64
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequiredVerdict {
    #[default]
    Better,
    NonInferior,
}

fn default_seed() -> u64 {
    17
}

fn default_gate_margin() -> f64 {
    0.02
}

fn default_max_new_tokens() -> u32 {
    128
}

impl Data {
    /// How old a trajectory may be, in milliseconds.
    pub fn since_ms(&self) -> Option<i64> {
        self.since.as_deref().and_then(parse_age)
    }

    /// Whether any limit is in tokens, which the base's tokenizer counts.
    pub fn counts_tokens(&self) -> bool {
        let limits = [self.max_prompt_tokens, self.min_reply_tokens, self.max_reply_tokens];
        limits.iter().any(Option::is_some)
    }
}
