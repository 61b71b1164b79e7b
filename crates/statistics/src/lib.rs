//! The formulas a verdict rests on, each with its source.
//!
//! | question | answer | valid |
//! | --- | --- | --- |
//! | did a mean or a rate move between two arms? | [`Difference`]: asymptotic confidence sequence | any time, from about 50 units per arm |
//! | does the treatment succeed less often? | [`BlockTally`]: 2×2 plug-in e-process | any time, exact |
//! | is a bad event more frequent than allowed? | [`LimitTally`]: truncated beta-binomial | any time, exact |
//! | do the arms get the units they should? | [`ln_e_sample_ratio`]: Dirichlet-multinomial | any time, exact |
//! | did a quantile of the latency move? | [`Exceedance`] of a frozen threshold, then one of the above | as above |
//! | where does a quantile lie, and do two samples share it? | [`QuantileSample`] | any time, exact |
//! | where does one rate lie? | [`bernoulli_interval`] | any time, exact |
//! | where does one mean in `[0, 1]` lie? | [`EmpiricalBernstein`], [`BettingGrid`] | any time, exact |
//! | how does a planned look or batch come out? | [`spending_bounds`], [`farrington_manning`], [`newcombe`] | only as planned |
//!
//! Guarantees: an e-value has expectation at most 1 while its null hypothesis holds, at any stopping
//! time, so by Ville's inequality it ever reaches `1/α` with probability at most `α`; looking often
//! is therefore safe. E-values are kept as logarithms. Accumulators take one observation at a time
//! without allocating, and those whose formula allows it can be stored and merged.
//!
//! Never: does IO, reads a clock, draws a random number, or decides anything.

mod batch;
mod betting;
mod blocks;
mod difference;
mod exceedance;
mod limit;
mod mixture;
mod moments;
mod multiplicity;
mod normal;
mod quantile;
mod ratio;
mod spending;

pub use batch::{FarringtonManning, chi_square_p, farrington_manning, newcombe, wilson};
pub use betting::{BettingGrid, EmpiricalBernstein};
pub use blocks::{Block, BlockTally};
pub use difference::{Claim, Difference, Interval};
pub use exceedance::Exceedance;
pub use limit::{LimitTally, ln_e_above_limit};
pub use mixture::{bernoulli_interval, normal_mixture_bound};
pub use moments::{Moments, Running};
pub use multiplicity::{all_of, any_of};
pub use normal::upper_quantile;
pub use quantile::QuantileSample;
pub use ratio::ln_e_sample_ratio;
pub use spending::spending_bounds;

/// Whether evidence, as the logarithm of an e-value, suffices at level `alpha`: `E ≥ 1/α`.
pub fn reaches(ln_e: f64, alpha: f64) -> bool {
    ln_e >= -alpha.ln()
}
