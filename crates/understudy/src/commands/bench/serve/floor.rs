//! What a step must take at the rates this machine reads memory and multiplies, and nothing else.

use std::{hint::black_box, thread, time::Instant};

use anyhow::Result;
use serde::Serialize;
use understudy_model::{BaseModel, Precision, product_rates};

use super::{super::floor::maps, HeldIn, Load, Rates, settings};

/// Values read to measure memory: far more than any cache holds.
const READ: usize = 64 << 20;

const TRIES: usize = 5;

/// Rows of products whose rate bounds that of a prompt.
const ROWS: usize = 512;

#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Floor {
    /// Read by all threads together.
    pub(super) gb_per_second: f64,
    /// The best rate of products, weighed over a layer's maps: this precision's, or bf16's where
    /// that has none to measure alone.
    pub(super) gflop_per_second: f64,
    /// Of weights, read by every step.
    pub(super) mb_per_step: f64,
    mflop_per_token: f64,
    /// Of keys and values, for one token of context.
    kv_bytes_per_token: f64,
}

impl Floor {
    pub(super) fn measure(model: &BaseModel, held_in: HeldIn) -> Result<Self> {
        let config = model.decoder.config();
        let multiplied = match held_in {
            HeldIn::F32 => Precision::F32,
            HeldIn::Bf16 | HeldIn::Int8 | HeldIn::Int4 => Precision::Bf16,
        };
        let (mut work, mut time) = (0.0, 0.0);
        for shape in maps(config) {
            let flop = (shape.0 * shape.1) as f64;
            work += flop;
            time += flop / product_rates(multiplied, ROWS, shape)?.0;
        }
        let in_maps: usize = maps(config).iter().map(|(inputs, outputs)| inputs * outputs).sum();
        let (in_maps, in_head) =
            ((config.layers * in_maps) as f64, (config.hidden * config.vocab) as f64);
        // Blocks of 32 with a scale of two bytes, in four bits also a least value.
        let (map, head) = match held_in {
            HeldIn::F32 => (4.0, 4.0),
            HeldIn::Bf16 => (2.0, 2.0),
            HeldIn::Int8 => (34.0 / 32.0, 34.0 / 32.0),
            HeldIn::Int4 => (20.0 / 32.0, 34.0 / 32.0),
        };
        Ok(Self {
            gb_per_second: read_rate(),
            gflop_per_second: work / time,
            mb_per_step: (map * in_maps + head * in_head) / 1e6,
            mflop_per_token: 2.0 * in_maps / 1e6,
            kv_bytes_per_token: model.decoder.kv_bytes(settings().kv_dtype(model)?) as f64,
        })
    }

    /// The most tokens per second that these rates allow.
    pub(super) fn rates(&self, load: Load) -> Rates {
        let prefill = self.gflop_per_second * 1e3 / self.mflop_per_token;
        let context = load.batch as f64 * (load.prompt as f64 + load.tokens as f64 / 2.0);
        let bytes = self.mb_per_step * 1e6 + self.kv_bytes_per_token * context;
        let reading = bytes / (self.gb_per_second * 1e9);
        let multiplying = load.batch as f64 / prefill;
        Rates { prefill, decode: load.batch as f64 / reading.max(multiplying) }
    }
}

/// Gigabytes per second that all threads together read.
fn read_rate() -> f64 {
    let threads = thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let values: Vec<u64> = vec![1; READ];
    let part = READ.div_ceil(threads);
    let best = (0..TRIES)
        .map(|_| {
            let begun = Instant::now();
            thread::scope(|scope| {
                for part in values.chunks(part) {
                    scope.spawn(|| black_box(part.iter().fold(0_u64, |sum, one| sum ^ one)));
                }
            });
            begun.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min);
    (READ * size_of::<u64>()) as f64 / best / 1e9
}
