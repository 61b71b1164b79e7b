//! Base weights, tokenizer, chat template, LoRA, kernels and log-probabilities.
//!
//! Guarantees: one forward pass and one log-probability for serving and training, over flat ragged
//! rows without padding (who serves may keep keys and values in f16, and has what that rounds);
//! exact gradients of every adapter value and of nothing else; base weights never written to;
//! adapters exchanged with PEFT bit for bit; one way from a conversation to ids, in which nothing a
//! message holds passes for a marker of the template's.
//!
//! Never: schedules, samples, optimises or serves; touches the network.

mod attest;
mod base;
mod batch;
mod cache;
mod config;
mod decoder;
mod device;
mod error;
mod host;
mod kernels;
mod linear;
mod logprob;
mod lora;
mod merge;
mod ops;
mod packed;
mod peft;
mod products;
mod rate;
mod template;
mod tokenizer;
mod weights;

pub use candle_core::{Device, Tensor};

pub use attest::{attest, probe, probe_in};
pub use base::{BaseDigests, BaseModel};
pub use batch::{AdapterRun, Batch, Span};
pub use cache::{BLOCK, KvBlock, KvCache, KvDtype};
pub use config::{Family, ModelConfig, RopeScaling, sampling_defaults};
pub use decoder::{Activations, Decoder, Dropout, Tape};
pub use device::device;
pub use error::{ModelError, Result};
pub use kernels::instructions::{Instructions, limit_instructions};
pub use linear::Precision;
pub use logprob::{LogProbs, Term, Weights, likeliest, token_log_prob};
pub use lora::{Lora, LoraGrads, LoraLayout, LoraSpec, Module, Moved, Parameter, Targets};
pub use merge::merge;
pub use packed::PackedMap;
pub use peft::{
    LARGEST_RANK, PeftAdapter, PeftFiles, adapter_digest, open_regular, read_peft, write_peft,
};
pub use products::{MapProduct, Product, instructions};
pub use rate::{adapters_time, product_rates};
pub use template::{ChatTemplate, Conversation, Ending};
pub use tokenizer::{Rendered, TokenStream, Tokenizer};
