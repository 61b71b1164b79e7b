//! What an adapter did on the machine that made it, for whoever loads it to reproduce.

use serde::{Deserialize, Serialize};
use understudy_ident::Digest;

use crate::Precision;

/// Taken when the adapter was written. A loader that cannot reproduce it must not serve it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attestation {
    /// Of the configuration and the weights as they were written.
    pub generation: Digest,
    pub rank: usize,
    /// The factor on every B·A.
    pub scale: f32,
    /// How the base was held while the probes were scored.
    pub precision: Precision,
    /// Every adapted map, in the order of the layers.
    pub modules: Vec<AttestedModule>,
    pub probes: Vec<AttestedProbe>,
}

/// One adapted map: A is `[rank, inputs]` and B `[outputs, rank]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttestedModule {
    /// As `layers.3.self_attn.q_proj`.
    pub path: String,
    pub inputs: usize,
    pub outputs: usize,
    /// √Σx² of A, summed in f64.
    pub norm_a: f64,
    pub norm_b: f64,
}

/// A fixed text, and how likely each of its tokens but the first is after those before it: natural
/// logarithms, one fewer than `tokens`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttestedProbe {
    pub tokens: Vec<u32>,
    /// Without the adapter: tells a changed base from a changed adapter.
    pub base: Vec<f32>,
    pub adapted: Vec<f32>,
}
