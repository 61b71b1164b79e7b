//! How fast this machine multiplies, to hold the time of a step against.

use std::time::Instant;

use candle_core::Device;

use crate::{
    device::Place,
    error::Result,
    host::tensor,
    kernels::int8::{Bits, QuantisedRows},
    linear::{Linear, Precision},
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
