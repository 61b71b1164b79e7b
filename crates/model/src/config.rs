//! The shape of a decoder, read from a Hugging Face `config.json` or from GGUF metadata.

mod generation;
pub(crate) mod gguf;
pub(crate) mod hf;
mod rope;

use std::path::Path;

use crate::{
    error::{ModelError, Result, refuse},
    weights::GgufSource,
};

pub use generation::sampling_defaults;
pub use rope::RopeScaling;

/// Which published architecture the numbers came from. The decoder itself never asks: everything
/// that differs is a field of [`ModelConfig`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Llama,
    Qwen2,
    Qwen3,
}

/// Everything that decides the shape of the forward pass.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    pub family: Family,
    pub vocab: usize,
    pub hidden: usize,
    pub intermediate: usize,
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub norm_eps: f32,
    pub rope_theta: f32,
    pub rope_scaling: Option<RopeScaling>,
    pub max_positions: usize,
    /// The output head is the embedding matrix.
    pub tied_head: bool,
    /// The q, k and v projections have a bias (Qwen2).
    pub qkv_bias: bool,
    /// Queries and keys are RMS-normalised per head before the rotation (Qwen3).
    pub qk_norm: bool,
}

impl ModelConfig {
    /// A model small enough to train in a test: two layers, hidden 64, four heads over two.
    pub fn tiny(family: Family) -> Self {
        Self {
            family,
            vocab: 320,
            hidden: 64,
            intermediate: 96,
            layers: 2,
            heads: 4,
            kv_heads: 2,
            head_dim: 16,
            norm_eps: 1e-5,
            rope_theta: 10_000.0,
            rope_scaling: None,
            max_positions: 1024,
            tied_head: true,
            qkv_bias: family == Family::Qwen2,
            qk_norm: family == Family::Qwen3,
        }
    }

    /// The shape of the base model at a path, without reading its weights.
    pub fn of(path: &Path) -> Result<Self> {
        let description = path.join("config.json");
        if description.is_file() {
            let text = std::fs::read_to_string(&description)
                .map_err(|source| ModelError::Read { path: description, source })?;
            return Self::from_hf(&text);
        }
        Ok(GgufSource::open(path)?.1)
    }

    /// Width of the concatenated query heads.
    pub fn q_dim(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of the concatenated key (or value) heads.
    pub fn kv_dim(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Width of one fused row: queries, then keys, then values.
    pub fn qkv_dim(&self) -> usize {
        self.q_dim() + 2 * self.kv_dim()
    }

    /// By how much each pair of a head is turned from one position to the next.
    pub(crate) fn frequencies(&self) -> Vec<f32> {
        rope::frequencies(self.rope_theta, self.head_dim, self.rope_scaling.as_ref())
    }

    pub(crate) fn checked(self) -> Result<Self> {
        let positive = [
            ("vocabulary size", self.vocab),
            ("hidden size", self.hidden),
            ("intermediate size", self.intermediate),
            ("layer count", self.layers),
            ("head count", self.heads),
            ("key/value head count", self.kv_heads),
            ("head dimension", self.head_dim),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(refuse!(Config, "the {name} is zero"));
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            let (heads, kv) = (self.heads, self.kv_heads);
            return Err(refuse!(Config, "{heads} heads cannot share {kv} key/value heads evenly"));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(refuse!(Config, "head dimension {} is odd", self.head_dim));
        }
        if let Some(scaling) = &self.rope_scaling {
            scaling.check(self.head_dim)?;
        }
        Ok(self)
    }
}
