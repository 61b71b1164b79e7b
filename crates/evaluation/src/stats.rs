//! Paired statistics on the same cases.
//!
//! Two subjects that answer the same cases are compared case by case. Comparing their means as if
//! they had seen different cases would throw away most of the power, since an easy case is easy for
//! both.

mod bootstrap;
mod permutation;

use std::collections::BTreeMap;

use statrs::distribution::{Binomial, ContinuousCDF, Discrete, DiscreteCDF, Normal};
use understudy_manifest::{ScorerSummary, Verdict};
use understudy_scorer::Score;

use bootstrap::{Row, estimate};
use permutation::swap_p;

/// Two-sided confidence of every interval; the verdicts follow from the intervals.
pub const CONFIDENCE: f64 = 0.95;
/// The chance to find a difference as large as the minimum detectable one.
pub const POWER: f64 = 0.8;

/// How far two subjects lie apart under one scorer, candidate − baseline.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// Difference of the suite's values, from −1 to 1.
    pub value: f64,
    pub low: f64,
    pub high: f64,
    /// Cases the candidate scored higher on, lower on, and equally.
    pub wins: u64,
    pub losses: u64,
    pub ties: u64,
    /// Exact McNemar, where every score is 0 or 1.
    pub mcnemar_p: Option<f64>,
    /// Its mid-p variant, which is less conservative, where it speaks at all.
    pub mcnemar_mid_p: Option<f64>,
    /// Paired permutation test, where McNemar's says nothing: scores between 0 and 1, or clusters.
    pub permutation_p: Option<f64>,
    pub minimum_detectable: f64,
}

/// The suite's value of one subject under one scorer, with its interval. Scores with the same
/// number in `clusters` are resampled together.
pub fn summarise(scores: &[Score], clusters: &[usize], seed: u64) -> ScorerSummary {
    if scores.is_empty() {
        return ScorerSummary { mean: 0.0, low: 0.0, high: 1.0 };
    }
    let rows: Vec<Row> =
        scores.iter().map(|score| [score.hits, score.possible, 0.0, 1.0]).collect();
    let rows = gather(&rows, clusters);
    let estimate = estimate(&rows, |sums| ratio(sums[0], sums[1]), [0.0, 1.0], seed);
    ScorerSummary { mean: estimate.value, low: estimate.low, high: estimate.high }
}

/// Compares two subjects whose scores stand in the same order of cases, each case by itself.
///
/// # Panics
/// When the two lists have different lengths.
pub fn compare(candidate: &[Score], baseline: &[Score], seed: u64) -> Difference {
    compare_clustered(candidate, baseline, &(0..candidate.len()).collect::<Vec<_>>(), seed)
}

/// The same where cases with the same number in `clusters` fail together, so that whole clusters
/// are drawn, and McNemar's test, which needs independent cases, says nothing.
///
/// # Panics
/// When the lists have different lengths.
pub fn compare_clustered(
    candidate: &[Score],
    baseline: &[Score],
    clusters: &[usize],
    seed: u64,
) -> Difference {
    assert_eq!(candidate.len(), baseline.len(), "both subjects answered the same cases");
    assert_eq!(candidate.len(), clusters.len(), "every case is in a cluster, perhaps alone");
    if candidate.is_empty() {
        return Difference::UNKNOWN;
    }
    let pairs = || candidate.iter().zip(baseline);
    let rows: Vec<Row> = pairs().map(|(c, b)| [c.hits, c.possible, b.hits, b.possible]).collect();
    let clustered = gather(&rows, clusters);
    let difference = |sums: &Row| ratio(sums[0], sums[1]) - ratio(sums[2], sums[3]);
    let estimate = estimate(&clustered, difference, [-1.0, 1.0], seed);

    let count = |holds: fn(f64, f64) -> bool| {
        pairs().filter(|(c, b)| holds(c.value, b.value)).count() as u64
    };
    let (wins, losses, ties) = (count(|c, b| c > b), count(|c, b| c < b), count(|c, b| c == b));
    let binary = |score: &Score| score.possible == 1.0 && (score.hits == 0.0 || score.hits == 1.0);
    let testable = clustered.len() == rows.len() && candidate.iter().chain(baseline).all(binary);
    let units = clustered.len() as u64;
    let tail = (1.0 - CONFIDENCE) / 2.0;
    Difference {
        value: estimate.value,
        low: estimate.low,
        high: estimate.high,
        wins,
        losses,
        ties,
        mcnemar_p: testable.then(|| mcnemar_exact(wins, losses)),
        mcnemar_mid_p: testable.then(|| mcnemar_mid_p(wins, losses)),
        permutation_p: (!testable).then(|| swap_p(&clustered, difference, seed)),
        minimum_detectable: minimum_detectable(estimate.discordance, units, tail, POWER),
    }
}

impl Difference {
    /// What no pair of scores says.
    pub const UNKNOWN: Self = Self {
        value: 0.0,
        low: -1.0,
        high: 1.0,
        wins: 0,
        losses: 0,
        ties: 0,
        mcnemar_p: None,
        mcnemar_mid_p: None,
        permutation_p: None,
        minimum_detectable: 1.0,
    };
}

/// One row per cluster, the sum of its cases, in the order of their first cases. A ratio of sums is
/// the same over clusters as over cases.
fn gather(rows: &[Row], clusters: &[usize]) -> Vec<Row> {
    let mut place = BTreeMap::new();
    let mut gathered: Vec<Row> = Vec::new();
    for (row, cluster) in rows.iter().zip(clusters) {
        let at = *place.entry(*cluster).or_insert(gathered.len());
        match gathered.get_mut(at) {
            Some(sum) => sum.iter_mut().zip(row).for_each(|(sum, part)| *sum += part),
            None => gathered.push(*row),
        }
    }
    gathered
}

/// `hits / possible`; where nothing was possible, nothing was missed.
fn ratio(hits: f64, possible: f64) -> f64 {
    if possible == 0.0 { 1.0 } else { hits / possible }
}

/// Holm's correction: with `m` p-values, the `k`-th smallest becomes the largest of
/// `(m − j + 1)·p₍ⱼ₎` over `j ≤ k`, at most 1. The chance of any false finding stays below the level.
/// Source: Holm, "A simple sequentially rejective multiple test procedure" (1979).
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    let (mut corrected, mut largest) = (vec![1.0; p.len()], 0.0_f64);
    for (rank, at) in order.into_iter().enumerate() {
        largest = largest.max((p.len() - rank) as f64 * p[at]).min(1.0);
        corrected[at] = largest;
    }
    corrected
}

/// What an interval of candidate − baseline says. `margin` is how much worse still counts as
/// non-inferior; a difference that is certain but smaller than the margin is non-inferior.
pub fn verdict(low: f64, high: f64, margin: f64) -> Verdict {
    if low > 0.0 {
        Verdict::Better
    } else if low > -margin {
        Verdict::NonInferior
    } else if high < 0.0 {
        Verdict::Worse
    } else {
        Verdict::Inconclusive
    }
}

/// Exact McNemar test, two-sided: how likely wins and losses this unequal, or more so, are when each
/// discordant case is a fair coin. `p = min(1, 2·P(X ≤ min(wins, losses)))`, X ~ Bin(n, ½).
pub fn mcnemar_exact(wins: u64, losses: u64) -> f64 {
    let discordant = wins + losses;
    // The only refusal of the distribution is a probability outside 0 to 1.
    let Ok(coin) = Binomial::new(0.5, discordant) else { return 1.0 };
    (2.0 * coin.cdf(wins.min(losses))).min(1.0)
}

/// The mid-p variant: half the chance of exactly what was seen is left out,
/// `p = 2·P(X ≤ k) − P(X = k)` with `k = min(wins, losses)`, and 1 when wins equal losses.
///
/// The exact test rejects too seldom, because few discordant cases allow few p-values; this one
/// holds its level nearly always. Source: Fagerland, Lydersen and Laake, "The McNemar test for
/// binary matched-pairs data: mid-p and asymptotic are better than exact conditional" (2013).
pub fn mcnemar_mid_p(wins: u64, losses: u64) -> f64 {
    let fewer = wins.min(losses);
    let Ok(coin) = Binomial::new(0.5, wins + losses) else { return 1.0 };
    (2.0 * coin.cdf(fewer) - coin.pmf(fewer)).min(1.0)
}

/// The smallest true difference that a comparison on `cases` would find with probability `power`,
/// at one-sided level `alpha`: `(z_{1−alpha} + z_{power}) · √(discordance / cases)`.
///
/// `discordance` is the mean squared difference per case; for 0/1 scores that is the share of cases
/// on which the two disagree.
pub fn minimum_detectable(discordance: f64, cases: u64, alpha: f64, power: f64) -> f64 {
    let z = |probability| standard_normal().inverse_cdf(probability);
    (z(1.0 - alpha) + z(power)) * (discordance / cases as f64).sqrt()
}

/// The value below which a share `at` of the sorted values lies, interpolated linearly.
pub(crate) fn quantile(sorted: &[f64], at: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let position = at.clamp(0.0, 1.0) * last as f64;
    let below = position.floor() as usize;
    let (low, high) = (sorted.get(below)?, sorted.get((below + 1).min(last))?);
    Some(low + (high - low) * position.fract())
}

fn standard_normal() -> Normal {
    Normal::standard()
}

#[cfg(test)]
mod tests;
