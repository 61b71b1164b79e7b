use serde::Deserialize;

use super::*;
use crate::stats::ratio;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

/// Made by `tests/golden/make_stats_golden.py` with `scipy.stats.permutation_test`.
#[derive(Deserialize)]
struct Case {
    name: String,
    rows: Vec<Row>,
    p: f64,
    /// 0 where every assignment was counted.
    tolerance: f64,
}

fn difference(sums: &Row) -> f64 {
    ratio(sums[0], sums[1]) - ratio(sums[2], sums[3])
}

#[test]
fn the_permutation_test_agrees_with_scipy() {
    let text = include_str!("../../../tests/golden/stats/permutation.json");
    let cases = serde_json::from_str::<Golden>(text).unwrap().cases;
    assert!(cases.iter().any(|case| case.tolerance == 0.0), "none is exact");
    for case in cases {
        let p = swap_p(&case.rows, difference, 17);
        let off = (p - case.p).abs();
        assert!(off <= case.tolerance.max(1e-9), "{}: {p}, not {}", case.name, case.p);
    }
}

#[test]
fn equal_subjects_are_never_told_apart() {
    let rows = vec![[0.5, 1.0, 0.5, 1.0]; 40];
    assert_eq!(swap_p(&rows, difference, 1), 1.0);
    assert_eq!(swap_p(&[], difference, 1), 1.0);
}

/// Under the null hypothesis a p-value of at most 0.05 comes in at most 5 % of experiments.
#[test]
fn the_level_is_held() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut graded = || f64::from(rng.next_u32() % 5) / 4.0;
    let rejected = (0..600)
        .filter(|_| {
            let rows: Vec<Row> = (0..12).map(|_| [graded(), 1.0, graded(), 1.0]).collect();
            swap_p(&rows, difference, 1) <= 0.05
        })
        .count();
    // Three standard errors above 30.
    assert!((10..=46).contains(&rejected), "{rejected} of 600");
}
