use serde::Deserialize;

use super::*;
use crate::stats::{gather, ratio};

/// Made by `tests/golden/make_stats_golden.py`; see there for how scipy came to each value.
#[derive(Deserialize)]
struct Golden {
    cases: Vec<GoldenCase>,
}

#[derive(Deserialize)]
struct GoldenCase {
    name: String,
    rows: Vec<Row>,
    /// Indices of the cases drawn, one list per replicate.
    #[serde(default)]
    resamples: Vec<Vec<usize>>,
    #[serde(default)]
    clusters: Vec<usize>,
    value: Option<f64>,
    low: f64,
    high: f64,
}

fn golden(text: &str) -> Vec<GoldenCase> {
    serde_json::from_str::<Golden>(text).unwrap().cases
}

fn difference(sums: &Row) -> f64 {
    ratio(sums[0], sums[1]) - ratio(sums[2], sums[3])
}

fn mean(sums: &Row) -> f64 {
    ratio(sums[0], sums[1])
}

fn coin_rows(hits: usize, cases: usize) -> Vec<Row> {
    (0..cases).map(|case| [if case < hits { 1.0 } else { 0.0 }, 1.0, 0.0, 1.0]).collect()
}

#[test]
fn the_interval_over_given_resamples_is_that_of_scipy() {
    let text = include_str!("../../../tests/golden/stats/bca_given_resamples.json");
    for case in golden(text) {
        let rows = &case.rows;
        let mut replicates: Vec<f64> = case
            .resamples
            .iter()
            .map(|drawn| difference(&sum(drawn.iter().map(|index| &rows[*index]))))
            .collect();
        let value = difference(&sum(rows.iter()));
        let (low, high) = bca_interval(value, &mut replicates, &influence(rows, difference));
        assert!((low - case.low).abs() < 1e-9, "{}: {low}, not {}", case.name, case.low);
        assert!((high - case.high).abs() < 1e-9, "{}: {high}, not {}", case.name, case.high);
    }
}

#[test]
fn the_interval_over_clusters_is_that_of_scipy() {
    let cases = golden(include_str!("../../../tests/golden/stats/bca_clusters.json"));
    assert!(!cases.is_empty());
    for case in cases {
        let rows = gather(&case.rows, &case.clusters);
        assert!(rows.len() < case.rows.len());
        let mut replicates: Vec<f64> = case
            .resamples
            .iter()
            .map(|drawn| difference(&sum(drawn.iter().map(|index| &rows[*index]))))
            .collect();
        let value = difference(&sum(rows.iter()));
        let (low, high) = bca_interval(value, &mut replicates, &influence(&rows, difference));
        assert!((low - case.low).abs() < 1e-9, "{}: {low}, not {}", case.name, case.low);
        assert!((high - case.high).abs() < 1e-9, "{}: {high}, not {}", case.name, case.high);
    }
}

#[test]
fn our_own_resamples_agree_with_those_of_scipy() {
    let text = include_str!("../../../tests/golden/stats/bca_own_resamples.json");
    for case in golden(text) {
        let found = estimate(&case.rows, difference, [-1.0, 1.0], 17);
        assert!((found.value - case.value.unwrap()).abs() < 1e-12, "{}", case.name);
        assert!((found.low - case.low).abs() < 0.006, "{}: {found:?}", case.name);
        assert!((found.high - case.high).abs() < 0.006, "{}: {found:?}", case.name);
    }
}

#[test]
fn influence_on_a_mean_is_the_distance_from_it() {
    let rows = coin_rows(1, 4);
    let found = influence(&rows, mean);
    for (found, expected) in found.iter().zip([0.75, -0.25, -0.25, -0.25]) {
        assert!((found - expected).abs() < 1e-12);
    }
}

#[test]
fn the_skew_of_a_single_loss_is_corrected() {
    let losses = coin_rows(1, 200);
    let found = estimate(&losses, mean, [0.0, 1.0], 1);
    // Clopper-Pearson for 1 of 200: 0.0001 to 0.0275; the percentile interval ends at 0.015.
    assert!(found.low <= 0.005 && (0.022..=0.032).contains(&found.high), "{found:?}");
}

/// The share of 95 % intervals that contain the truth, over many made-up experiments.
fn coverage(cases: usize, mut draw: impl FnMut() -> Row, truth: f64) -> f64 {
    const EXPERIMENTS: u32 = 1500;
    let mut covered = 0;
    for seed in 0..EXPERIMENTS {
        let rows: Vec<Row> = (0..cases).map(|_| draw()).collect();
        let mut replicates = resample(&rows, difference, 1000, seed.into());
        let (low, high) = bca_interval(
            difference(&sum(rows.iter())),
            &mut replicates,
            &influence(&rows, difference),
        );
        covered += u32::from(low <= truth && truth <= high);
    }
    f64::from(covered) / f64::from(EXPERIMENTS)
}

#[test]
fn intervals_of_pass_rates_cover_the_truth_as_often_as_they_say() {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let mut hit = |rate: f64| {
        if f64::from(rng.next_u32()) < rate * f64::from(u32::MAX) { 1.0 } else { 0.0 }
    };
    let share = coverage(80, || [hit(0.7), 1.0, hit(0.5), 1.0], 0.2);
    assert!((0.93..=0.97).contains(&share), "{share} of the intervals hold the truth");
}

#[test]
fn intervals_of_graded_scores_cover_the_truth_as_often_as_they_say() {
    let mut rng = ChaCha8Rng::seed_from_u64(12);
    let mut uniform = || f64::from(rng.next_u32()) / f64::from(u32::MAX);
    // A maximum of two uniform numbers has mean 2/3, a minimum 1/3, and both share one of the two.
    let mut draw = || {
        let (shared, a, b) = (uniform(), uniform(), uniform());
        [shared.max(a), 1.0, shared.min(b), 1.0]
    };
    let share = coverage(60, &mut draw, 1.0 / 3.0);
    assert!((0.93..=0.97).contains(&share), "{share} of the intervals hold the truth");
}
