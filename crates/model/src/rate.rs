//! How fast this machine multiplies, to hold the time of a step against.

use std::time::Instant;

use candle_core::Device;

use crate::{
    batch::AdapterRun,
    config::ModelConfig,
    device::Place,
    error::Result,
    host::tensor,
    kernels::int8::{Bits, QuantisedRows},
    linear::{Linear, Precision},
    lora::{Group, Lora},
    ops::Ops,
};

/// The best of this many products counts: others may be using the machine.
const TRIES: usize = 7;

/// GFLOP/s of x · W on all threads, and of the gradient dy · Wᵀ, for x `[rows, inputs]` and a frozen
/// W `[inputs, outputs]`.
pub fn product_rates(
    precision: Precision,
    rows: usize,
    (inputs, outputs): (usize, usize),
) -> Result<(f64, f64)> {
    let ramp = |len: usize| (0..len).map(|at| (at % 31) as f32 / 31.0 - 0.5).collect::<Vec<f32>>();
    let w = match precision {
        Precision::Int8 => blocks(&ramp(inputs * outputs), inputs, Bits::Eight),
        Precision::Int4 => blocks(&ramp(inputs * outputs), inputs, Bits::Four),
        _ => {
            let place = Place::new(&Device::Cpu, precision);
            Linear::new(ramp(inputs * outputs), (inputs, outputs), &place)?
        }
    };
    let (x, dy) = (
        tensor(ramp(rows * inputs), (rows, inputs))?,
        tensor(ramp(rows * outputs), (rows, outputs))?,
    );
    let (mut forward, mut backward) = (f64::MAX, f64::MAX);
    for _ in 0..TRIES {
        let start = Instant::now();
        let y = Ops::Fused.apply(&x, &w)?;
        forward = forward.min(start.elapsed().as_secs_f64());
        let start = Instant::now();
        let dx = Ops::Fused.apply_transposed(&dy, &w)?;
        backward = backward.min(start.elapsed().as_secs_f64());
        assert!(y.dims() == dy.dims() && dx.dims() == x.dims(), "products of odd shapes");
    }
    let work = 2e-9 * (rows * inputs * outputs) as f64;
    Ok((work / forward, work / backward))
}

fn blocks(rows: &[f32], inputs: usize, bits: Bits) -> Linear {
    Linear::of_blocks(&[QuantisedRows::round(rows, inputs, bits)], bits)
}

/// Seconds that the adapters of one decoding step take, maps and everything else left out, where
/// `lanes` sequences are shared evenly among as many adapters as `of` says, in order. With more
/// adapters than a step has, steps take them by turns, so that none is still in cache when its turn
/// comes.
pub fn adapters_time(
    config: &ModelConfig,
    adapters: &[Lora],
    (lanes, of): (usize, usize),
) -> Result<f64> {
    let mut best = f64::MAX;
    for step in 0..TRIES * adapters.len().div_ceil(of) {
        let run = |at: usize| AdapterRun {
            rows: at * lanes / of..(at + 1) * lanes / of,
            lora: adapters.get((step * of + at) % adapters.len()),
        };
        let runs: Vec<AdapterRun<'_>> = (0..of).map(run).collect();
        let mut spent = 0.0;
        for (layer, group) in (0..config.layers).flat_map(|layer| Group::ALL.map(|g| (layer, g))) {
            let (inputs, outputs) = group.dims(config);
            let x = tensor(vec![0.5; lanes * inputs], (lanes, inputs))?;
            let y = tensor(vec![0.5; lanes * outputs], (lanes, outputs))?;
            let start = Instant::now();
            let (y, _) = Ops::Fused.adapt(y, &x, (layer, group), &runs)?;
            spent += start.elapsed().as_secs_f64();
            assert!(y.dims() == [lanes, outputs], "a product of odd shape");
        }
        best = best.min(spent);
    }
    Ok(best)
}
