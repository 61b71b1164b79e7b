//! Paired permutation test: had the two subjects been named the other way round on some cases, how
//! often would they lie as far apart?
//!
//! If the subjects are equally good, which of the two gave which answer to a case is a coin toss.
//! So each case (or cluster) is swapped or not, and the share of assignments whose difference is at
//! least as large, in either direction, is the p-value. All assignments are counted where there are
//! few, otherwise a seeded sample of them. Source: Good, "Permutation Tests", 2000, chapter 3; the
//! sampled value after Phipson and Smyth, "Permutation p-values should never be zero" (2010).

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};

use super::bootstrap::{RESAMPLES, Row, sum};

/// With so many cases that differ, or fewer, every assignment is counted: 8,192 of them.
const ENUMERABLE: usize = 13;
/// Differences that only rounding tells apart are the same.
const ROUNDING: f64 = 1e-12;

/// The two-sided p-value of `statistic`, which a swap of all rows turns into its negative.
pub(super) fn swap_p(rows: &[Row], statistic: impl Fn(&Row) -> f64, seed: u64) -> f64 {
    let seen = statistic(&sum(rows.iter())).abs() - ROUNDING;
    let (alike, unlike): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(|row| row[..2] == row[2..]);
    let fixed = sum(alike.into_iter());
    let extreme = |is_swapped: &mut dyn FnMut(usize) -> bool| {
        let mut sums = fixed;
        for (nth, row) in unlike.iter().enumerate() {
            let [a, b, c, d] = **row;
            let side = if is_swapped(nth) { [c, d, a, b] } else { [a, b, c, d] };
            sums.iter_mut().zip(side).for_each(|(sum, part)| *sum += part);
        }
        statistic(&sums).abs() >= seen
    };
    if unlike.len() <= ENUMERABLE {
        let all = 1_u32 << unlike.len();
        let count = (0..all).filter(|mask| extreme(&mut |nth| mask >> nth & 1 == 1)).count();
        return count as f64 / f64::from(all);
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut toss = |_| rng.next_u32() >> 31 == 1;
    let count = (0..RESAMPLES).filter(|_| extreme(&mut toss)).count();
    (count + 1) as f64 / (RESAMPLES + 1) as f64
}

#[cfg(test)]
mod tests;
