//! What the products of a step must take at the rate this machine multiplies, and nothing else.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use understudy_model::{ModelConfig, product_rates};

use super::{
    job::Dtype,
    work::{BATCH, ROW},
};

/// The least time of a step, and what it was reckoned from.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Floor {
    /// Over the maps of a layer, forward and backward, each weighed by its work.
    pub(super) gflop_per_second: f64,
    pub(super) mflop_per_token: f64,
    pub(super) step_seconds: f64,
}

impl Floor {
    /// Multiplies as a step of supervised fine-tuning does, best of several tries.
    pub(super) fn measure(config: &ModelConfig, dtype: Dtype, rank: usize) -> Result<Self> {
        let (mut work, mut time) = (0.0, 0.0);
        for shape in maps(config) {
            let (forward, backward) = product_rates(dtype.precision(), BATCH * ROW, shape)?;
            let flop = (shape.0 * shape.1) as f64;
            work += 2.0 * flop;
            time += flop / forward + flop / backward;
        }
        let (gflop_per_second, mflop_per_token) = (work / time, flop_per_token(config, rank) / 1e6);
        let step_seconds = mflop_per_token * (BATCH * ROW) as f64 / gflop_per_second / 1e3;
        Ok(Self { gflop_per_second, mflop_per_token, step_seconds })
    }
}

/// Inputs and outputs of the frozen maps of one layer, those that share an input as one.
pub(super) fn maps(config: &ModelConfig) -> [(usize, usize); 4] {
    [
        (config.hidden, config.qkv_dim()),
        (config.q_dim(), config.hidden),
        (config.hidden, 2 * config.intermediate),
        (config.intermediate, config.hidden),
    ]
}

/// Products of one token of a row of [`ROW`], all of whose tokens have a loss.
///
/// For N frozen weights of maps and head: `2N` forward and `2N` to the inputs; for P adapter values
/// `2P` forward and `4P` backward; causal attention over L positions of q channels and every layer
/// `2Lq` forward (two products over L/2 keys) and `5Lq` backward, which makes the scores again.
fn flop_per_token(config: &ModelConfig, rank: usize) -> f64 {
    let layers = config.layers as f64;
    let maps: usize = maps(config).iter().map(|(inputs, outputs)| inputs * outputs).sum();
    let frozen = layers * maps as f64 + (config.hidden * config.vocab) as f64;
    let sides: usize = adapted(config).iter().map(|(inputs, outputs)| inputs + outputs).sum();
    let adapter = layers * (rank * sides) as f64;
    let attention = layers * (ROW * config.q_dim()) as f64;
    4.0 * frozen + 6.0 * adapter + 7.0 * attention
}

/// The maps as an adapter sees them, each with its own A and B.
fn adapted(config: &ModelConfig) -> [(usize, usize); 7] {
    let (hidden, wide) = (config.hidden, config.intermediate);
    [
        (hidden, config.q_dim()),
        (hidden, config.kv_dim()),
        (hidden, config.kv_dim()),
        (config.q_dim(), hidden),
        (hidden, wide),
        (hidden, wide),
        (wide, hidden),
    ]
}

#[cfg(test)]
mod tests {
    use understudy_model::Family;

    use super::*;

    #[test]
    fn a_token_of_smollm2_135m_costs_six_hundred_million_operations() {
        let config = ModelConfig {
            vocab: 49152,
            hidden: 576,
            intermediate: 1536,
            layers: 30,
            heads: 9,
            kv_heads: 3,
            head_dim: 64,
            ..ModelConfig::tiny(Family::Llama)
        };
        let flop = flop_per_token(&config, 16);
        // 4 · 134.5 M frozen, 6 · 4.9 M of adapters, 7 · 4.4 M of attention.
        assert!((flop / 1e6 - 598.2).abs() < 0.5, "{flop}");
    }
}
