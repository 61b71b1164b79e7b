//! Single formulas on plain Bernoulli arms, without a policy around them.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use understudy_statistics::{
    Block, BlockTally, Difference, LimitTally, Moments, any_of, ln_e_sample_ratio, reaches,
    spending_bounds, upper_quantile,
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
    /// A mixture of likelihood ratios over normal effects with this standard deviation, two-sided.
    MixtureRatio { tau: f64 },
    /// The gap's likelihood ratio against `ln((1 + ln t)/α)`, which stops best-arm searches.
    GapRatio,
    /// A z-test at each of as many planned looks as there are, two-sided, α spent as `α t^1.5`.
    Planned,
    /// A two-sided z-test at level `α/ln n`: what some programs do, and no guarantee.
    LogLevel,
    /// Successes per window against a threshold: stops once so many windows were below it. A window
    /// is what lies between two looks.
    Windows { least: f64, bad: u64 },
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
    let bounds = match method {
        Method::Planned => planned(alpha, looks),
        _ => Vec::new(),
    };
    let rule = Rule { method, alpha, looks, bounds };
    let stops: Vec<f64> = (0..replications)
        .filter_map(|nth| {
            let chance = ChaCha8Rng::seed_from_u64(seed.wrapping_add(u64::from(nth)));
            rule.one_run((control, treatment), chance)
        })
        .map(|units| units as f64)
        .collect();
    let stopped = Share::of(stops.len() as u64, u64::from(replications));
    Stopping { stopped, units: Quantiles::of(stops) }
}

/// A method with all it needs to know before the first unit.
struct Rule {
    method: Method,
    alpha: f64,
    looks: Looks,
    /// Of planned looks.
    bounds: Vec<f64>,
}

/// How far below its control the treatment must be, in standard errors, at each planned look.
fn planned(alpha: f64, looks: Looks) -> Vec<f64> {
    let count = looks.up_to / looks.every;
    let times: Vec<f64> = (1..=count).map(|look| look as f64 / count as f64).collect();
    spending_bounds(&times, alpha / 2.0, 1.5)
}

impl Rule {
    fn one_run(&self, (control, treatment): (f64, f64), mut chance: ChaCha8Rng) -> Option<u64> {
        let Looks { every, up_to, controls } = self.looks;
        let mut seen = Seen::default();
        (1..=up_to).find(|n| {
            let successes =
                (0..controls).filter(|_| chance.random::<f64>() < control).count() as u64;
            let block = Block { successes, units: controls };
            seen.blocks.push(block, Block::single(chance.random::<f64>() < treatment));
            n % every == 0 && self.alarm(&mut seen)
        })
    }
}

/// What a run has seen, at its looks.
#[derive(Default)]
struct Seen {
    blocks: BlockTally,
    successes_before: u64,
    bad_windows: u64,
}

impl Seen {
    fn difference(&self) -> Difference {
        let BlockTally { treatment_successes, treatment_units, .. } = self.blocks;
        let BlockTally { control_successes, control_units, .. } = self.blocks;
        Difference::of(
            Moments::proportion(treatment_successes, treatment_units),
            Moments::proportion(control_successes, control_units),
        )
    }

    /// By how many standard errors the treatment is below its control.
    fn fall(&self) -> f64 {
        let one = self.difference();
        -one.delta / one.standard_error_squared.sqrt()
    }
}

impl Rule {
    fn alarm(&self, seen: &mut Seen) -> bool {
        let (alpha, every) = (self.alpha, self.looks.every);
        let units = seen.blocks.treatment_units;
        let failures = units - seen.blocks.treatment_successes;
        match self.method {
            // The one-sided 95 % quantile of the normal distribution; the contrast has no other level.
            Method::Naive => seen.fall() > 1.645,
            Method::OneSided { n_star } => seen.difference().upper(alpha, n_star) < 0.0,
            Method::OneOf { guards, n_star } => {
                seen.difference().upper(any_of(alpha, guards), n_star) < 0.0
            }
            Method::TwoSided { n_star } => seen.difference().interval(alpha, n_star).upper < 0.0,
            Method::Blocks => reaches(seen.blocks.ln_e_max, alpha),
            Method::Limit { limit } => {
                reaches(LimitTally { bad: failures, units }.ln_e(limit), alpha)
            }
            Method::SampleRatio => {
                let counts = [seen.blocks.treatment_successes, failures];
                reaches(ln_e_sample_ratio(counts, [0.5, 0.5]), alpha)
            }
            Method::MixtureRatio { tau } => {
                let (variance, prior) = (seen.difference().standard_error_squared, tau * tau);
                let share = prior / (variance + prior);
                let ln_ratio = 0.5 * (1.0 - share).ln() + 0.5 * share * seen.fall().powi(2);
                seen.fall() > 0.0 && reaches(ln_ratio, alpha)
            }
            Method::GapRatio => {
                let t = (2 * units) as f64;
                seen.fall() > 0.0 && 0.5 * seen.fall().powi(2) > ((1.0 + t.ln()) / alpha).ln()
            }
            Method::Planned => seen.fall() > self.bounds[(units / every - 1) as usize],
            Method::LogLevel => {
                let level = alpha / (units as f64).ln().max(1.0);
                seen.fall() > upper_quantile(level / 2.0)
            }
            Method::Windows { least, bad } => {
                let successes = seen.blocks.treatment_successes - seen.successes_before;
                seen.successes_before = seen.blocks.treatment_successes;
                seen.bad_windows += u64::from((successes as f64) < least * every as f64 - 1e-9);
                seen.bad_windows >= bad
            }
        }
    }
}
