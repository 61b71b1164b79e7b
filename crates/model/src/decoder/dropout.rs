//! Dropout on what an adapter reads, and on nothing else.

use candle_core::Tensor;
use rayon::prelude::*;

use crate::{
    error::{Result, refuse},
    lora::Group,
};

/// Zeroes a share of the inputs of every adapted map while training, and scales up the rest:
/// u = drop(x) Aᵀ. The base always reads x whole.
///
/// Nothing is stored: whether an element is dropped follows from the seed and its place, so the
/// backward pass finds the same answer again. How a step is cut into batches changes the places.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    rate: f32,
    seed: u64,
}

impl Dropout {
    /// `rate` is the share dropped, in [0, 1); 0 is no dropout.
    pub fn new(rate: f32, seed: u64) -> Result<Option<Self>> {
        if !(0.0..1.0).contains(&rate) {
            return Err(refuse!(Lora, "a dropout of {rate} is not at least 0 and below 1"));
        }
        Ok((rate > 0.0).then_some(Self { rate, seed }))
    }

    /// 0 or 1 / (1 − rate) for every element of `x`.
    pub(super) fn mask(self, x: &Tensor, (layer, group): (usize, Group)) -> Result<Tensor> {
        let stream = mix(self.seed ^ mix((layer * Group::ALL.len() + group as usize) as u64));
        let kept = 1.0 / (1.0 - self.rate);
        let threshold = (f64::from(self.rate) * 2.0_f64.powi(32)) as u64;
        let keep = |at: usize| {
            let is_kept = mix(stream.wrapping_add(at as u64)) >> 32 >= threshold;
            if is_kept { kept } else { 0.0 }
        };
        let mask: Vec<f32> = (0..x.elem_count()).into_par_iter().map(keep).collect();
        Ok(Tensor::from_vec(mask, x.dims2()?, x.device())?)
    }
}

/// Spreads every bit of a number over all of them (the finaliser of splitmix64).
fn mix(z: u64) -> u64 {
    let z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
