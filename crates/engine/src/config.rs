//! How much an engine takes on at once.

use serde::{Deserialize, Serialize};
use understudy_inference::LogProbsOf;
use understudy_model::{BaseModel, KvDtype, LARGEST_RANK, Precision};

use crate::{EngineError, store::Limits};

/// Requests that may wait for adapters to be read, whatever may wait for a turn: each of them holds
/// a thread of whoever asked.
const MOST_ASKING: usize = 128;

/// Limits of one engine. The defaults suit a small model on a laptop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Sequences decoded together.
    pub max_running: usize,
    /// Requests that may wait; more are told to come back. As many, but no more than 128, may wait
    /// for adapters that have to be read first.
    pub max_waiting: usize,
    /// Tokens their prompts may hold together; more are told to come back.
    pub max_waiting_tokens: usize,
    /// Most rows of one step. While others decode, prompts are read in smaller chunks than this, so
    /// that a long prompt does not stall everybody else's next token.
    pub step_tokens: usize,
    /// Most prompt tokens of a step in which others decode, if that is more than twice their number;
    /// a prompt that can be read in a few smaller bites is. Each token of a prompt makes everybody's
    /// next one later, and fewer make a new prompt wait longer. As much as `step_tokens` or more says
    /// that nobody waits for a single token: prompts are read as fast as they can be.
    pub beside_decoding: usize,
    /// Tokens whose keys and values all running sequences may hold together. Also the longest
    /// sequence, where the model itself could go further.
    pub kv_tokens: usize,
    /// Tokens of ended sequences kept so that prompts which begin alike need not be read again;
    /// 0 is off.
    pub prefix_tokens: usize,
    /// Bytes of adapters in memory, retired ones that requests still hold included. A swap needs
    /// room for both generations.
    pub adapter_bytes: u64,
    /// Generations in memory, counted likewise. More may be registered; they are read when they
    /// are asked for, in the place of those longest out of use.
    pub adapters_resident: usize,
    /// The largest rank of an adapter that is served.
    pub max_lora_rank: usize,
    /// Earlier generations of an alias kept for a rollback, unless a load says otherwise.
    pub keep_previous: usize,
    /// Which log-probabilities requests are told that do not say.
    pub logprobs_mode: LogProbsOf,
    /// In what keys and values are kept.
    pub kv_cache_dtype: KvCacheDtype,
}

/// The element type of keys and values, as an operator says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KvCacheDtype {
    /// f16 on a processor beside a base in fewer bits than f32, and f32 otherwise.
    #[default]
    Auto,
    /// As exactly as the training pass has them.
    F32,
    F16,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_running: 32,
            max_waiting: 256,
            max_waiting_tokens: 131_072,
            step_tokens: 512,
            beside_decoding: 32,
            kv_tokens: 16_384,
            prefix_tokens: 2_048,
            adapter_bytes: 4 << 30,
            adapters_resident: 64,
            max_lora_rank: LARGEST_RANK,
            keep_previous: 1,
            logprobs_mode: LogProbsOf::Raw,
            kv_cache_dtype: KvCacheDtype::Auto,
        }
    }
}

impl Config {
    pub(crate) fn limits(&self) -> Limits {
        let (bytes, resident) = (self.adapter_bytes, self.adapters_resident);
        Limits { bytes, resident, asking: self.max_waiting.min(MOST_ASKING) }
    }

    /// In what keys and values are kept beside this base.
    pub fn kv_dtype(&self, base: &BaseModel) -> Result<KvDtype, EngineError> {
        let on_processor = base.decoder.device().is_cpu();
        match self.kv_cache_dtype {
            KvCacheDtype::Auto if on_processor && base.precision != Precision::F32 => {
                Ok(KvDtype::F16)
            }
            KvCacheDtype::Auto | KvCacheDtype::F32 => Ok(KvDtype::F32),
            KvCacheDtype::F16 if on_processor => Ok(KvDtype::F16),
            KvCacheDtype::F16 => Err(EngineError::Config {
                setting: "kv_cache_dtype",
                why: "must be f32 or auto on an accelerator".to_owned(),
            }),
        }
    }

    /// What could not work, by name.
    pub fn check(&self) -> Result<(), EngineError> {
        let refuse = |setting, why: String| Err(EngineError::Config { setting, why });
        if self.max_running == 0 {
            return refuse("max_running", "must be at least 1".to_owned());
        }
        if self.max_waiting == 0 {
            return refuse("max_waiting", "must be at least 1".to_owned());
        }
        if self.step_tokens <= self.max_running {
            // Otherwise decoding alone could fill every step and no prompt would ever be read.
            let why = format!("must be more than max_running, which is {}", self.max_running);
            return refuse("step_tokens", why);
        }
        if self.beside_decoding == 0 {
            return refuse("beside_decoding", "must be at least 1".to_owned());
        }
        if self.kv_tokens < 2 {
            return refuse("kv_tokens", "must be at least 2".to_owned());
        }
        if self.adapters_resident < 2 {
            let why = "must be at least 2, the old and the new one of a swap".to_owned();
            return refuse("adapters_resident", why);
        }
        if !(1..=LARGEST_RANK).contains(&self.max_lora_rank) {
            return refuse("max_lora_rank", format!("must lie between 1 and {LARGEST_RANK}"));
        }
        Ok(())
    }
}
