//! Single formulas on plain Bernoulli arms, without a policy around them.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use understudy_statistics::{
    Block, BlockTally, Difference, LimitTally, Moments, any_of, ln_e_sample_ratio, reaches,
};

use crate::{Quantiles, Share};

/// A rule that says at a look that the treatment does worse than its control.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Method {
    /// A z-test for one look, at every look: what not to do.
    Naive,
    /// The one-sided confidence sequence's upper bound is below 0.
    OneSided { n_star: f64 },
    /// The two-sided one's is.
    TwoSided { n_star: f64 },
    /// The 2×2 e-process reached `1/α`.
    Blocks,
    /// The treatment alone fails more often than this limit allows.
    Limit { limit: f64 },
    /// Units do not fall evenly on two arms; the treatment's chance is that of the first arm.
    SampleRatio,
    /// The one-sided sequence at a part of α, as if it were one of so many guards.
    OneOf { guards: usize, n_star: f64 },
}

/// When looks happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Looks {
    /// Units of the treatment from one to the next.
    pub every: u64,
    /// Units of the treatment at the last.
    pub up_to: u64,
    /// Control units for each unit of the treatment.
    pub controls: u64,
}

/// How often a method stopped, and after how many units of the treatment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Stopping {
    pub stopped: Share,
    pub units: Option<Quantiles>,
}

/// Runs a method against two arms whose units succeed with the given chances.
pub fn stopping(
    method: Method,
    (control, treatment): (f64, f64),
    alpha: f64,
    looks: Looks,
    (replications, seed): (u32, u64),
) -> Stopping {
    let stops: Vec<f64> = (0..replications)
        .filter_map(|nth| {
            let chance = ChaCha8Rng::seed_from_u64(seed.wrapping_add(u64::from(nth)));
            one_run(method, (control, treatment), alpha, looks, chance)
        })
        .map(|units| units as f64)
        .collect();
    let stopped = Share::of(stops.len() as u64, u64::from(replications));
    Stopping { stopped, units: Quantiles::of(stops) }
}

fn one_run(
    method: Method,
    (control, treatment): (f64, f64),
    alpha: f64,
    looks: Looks,
    mut chance: ChaCha8Rng,
) -> Option<u64> {
    let mut blocks = BlockTally::default();
    (1..=looks.up_to).find(|n| {
        let successes =
            (0..looks.controls).filter(|_| chance.random::<f64>() < control).count() as u64;
        let block = Block { successes, units: looks.controls };
        blocks.push(block, Block::single(chance.random::<f64>() < treatment));
        n % looks.every == 0 && alarm(method, &blocks, alpha)
    })
}

fn alarm(method: Method, seen: &BlockTally, alpha: f64) -> bool {
    let difference = || {
        Difference::of(
            Moments::proportion(seen.treatment_successes, seen.treatment_units),
            Moments::proportion(seen.control_successes, seen.control_units),
        )
    };
    let failures = seen.treatment_units - seen.treatment_successes;
    match method {
        // The one-sided 95 % quantile of the normal distribution; the contrast has no other level.
        Method::Naive => {
            let one = difference();
            one.delta < -1.645 * one.standard_error_squared.sqrt()
        }
        Method::OneSided { n_star } => difference().upper(alpha, n_star) < 0.0,
        Method::OneOf { guards, n_star } => difference().upper(any_of(alpha, guards), n_star) < 0.0,
        Method::TwoSided { n_star } => difference().interval(alpha, n_star).upper < 0.0,
        Method::Blocks => reaches(seen.ln_e_max, alpha),
        Method::Limit { limit } => {
            let tally = LimitTally { bad: failures, units: seen.treatment_units };
            reaches(tally.ln_e(limit), alpha)
        }
        Method::SampleRatio => {
            let counts = [seen.treatment_successes, failures];
            reaches(ln_e_sample_ratio(counts, [0.5, 0.5]), alpha)
        }
    }
}
