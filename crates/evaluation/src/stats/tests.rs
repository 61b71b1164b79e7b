use serde::Deserialize;

use super::*;

/// A file of values that `tests/golden/make_stats_golden.py` computed with scipy and statsmodels.
#[derive(Deserialize)]
struct Golden<Case> {
    cases: Vec<Case>,
}

fn golden<Case: for<'de> Deserialize<'de>>(text: &str) -> Vec<Case> {
    serde_json::from_str::<Golden<Case>>(text).unwrap().cases
}

fn binary(hits: &[u8]) -> Vec<Score> {
    hits.iter().map(|hit| Score::from(*hit == 1)).collect()
}

/// `ones` hits followed by misses.
fn hits(ones: usize, cases: usize) -> Vec<Score> {
    (0..cases).map(|case| Score::from(case < ones)).collect()
}

/// Every case in a cluster of its own.
fn alone(cases: usize) -> Vec<usize> {
    (0..cases).collect()
}

#[test]
fn mcnemar_agrees_with_statsmodels() {
    #[derive(Deserialize)]
    struct Case {
        wins: u64,
        losses: u64,
        p: f64,
    }
    for case in golden::<Case>(include_str!("../../tests/golden/stats/mcnemar.json")) {
        let p = mcnemar_exact(case.wins, case.losses);
        assert!((p - case.p).abs() < 1e-9, "{} to {}: {p}", case.wins, case.losses);
    }
}

#[test]
fn the_minimum_detectable_difference_agrees_with_statsmodels() {
    #[derive(Deserialize)]
    struct Case {
        cases: u64,
        discordance: f64,
        alpha: f64,
        difference: f64,
    }
    for case in golden::<Case>(include_str!("../../tests/golden/stats/minimum_detectable.json")) {
        let found = minimum_detectable(case.discordance, case.cases, case.alpha, 0.8);
        assert!((found - case.difference).abs() < 1e-9, "{found} for {}", case.difference);
    }
}

/// What people are told about the size of a suite, in points.
#[test]
fn the_published_table_of_suite_sizes_holds() {
    let table = [
        (50, [11.1, 15.7, 19.3]),
        (100, [7.9, 11.1, 13.6]),
        (200, [5.6, 7.9, 9.6]),
        (300, [4.5, 6.4, 7.9]),
        (500, [3.5, 5.0, 6.1]),
        (1000, [2.5, 3.5, 4.3]),
    ];
    for (cases, row) in table {
        for (discordance, points) in [0.1, 0.2, 0.3].into_iter().zip(row) {
            let found = 100.0 * minimum_detectable(discordance, cases, 0.05, 0.8);
            assert!((found - points).abs() < 0.051, "{cases} cases: {found}, not {points}");
        }
    }
    // The share of wins among discordant cases that a one-sided exact test needs.
    for (wins, discordant) in [(5, 5), (7, 8), (9, 10), (15, 20), (20, 30), (37, 60)] {
        assert!(mcnemar_exact(wins, discordant - wins) / 2.0 <= 0.05, "{wins} of {discordant}");
        assert!(mcnemar_exact(wins - 1, discordant - wins + 1) / 2.0 > 0.05, "{wins}");
    }
}

#[test]
fn a_verdict_follows_from_the_interval() {
    assert_eq!(verdict(0.01, 0.20, 0.02), Verdict::Better);
    assert_eq!(verdict(-0.01, 0.20, 0.02), Verdict::NonInferior);
    assert_eq!(verdict(-0.015, -0.005, 0.02), Verdict::NonInferior);
    assert_eq!(verdict(-0.20, -0.01, 0.02), Verdict::Worse);
    assert_eq!(verdict(-0.05, 0.20, 0.02), Verdict::Inconclusive);
    assert_eq!(verdict(0.0, 0.0, 0.0), Verdict::Inconclusive);
}

#[test]
fn a_difference_counts_wins_losses_and_ties() {
    let found = compare(&binary(&[1, 1, 0, 1, 0]), &binary(&[0, 1, 1, 0, 0]), 1);
    assert_eq!((found.wins, found.losses, found.ties), (2, 1, 2));
    assert!((found.value - 0.2).abs() < 1e-12);
    assert_eq!(found.mcnemar_p, Some(1.0));
    assert!(found.low < found.value && found.value < found.high);
    let graded = [Score { value: 0.5, hits: 1.0, possible: 2.0 }; 5];
    assert_eq!(compare(&graded, &binary(&[0, 1, 1, 0, 0]), 1).mcnemar_p, None);
}

#[test]
fn swapping_the_subjects_mirrors_the_difference() {
    let (a, b) = (hits(70, 100), hits(45, 100));
    let (forth, back) = (compare(&a, &b, 3), compare(&b, &a, 3));
    assert_eq!((forth.wins, forth.losses), (back.losses, back.wins));
    assert!((forth.value + back.value).abs() < 1e-12);
    assert!((forth.low + back.high).abs() < 0.01, "{forth:?} {back:?}");
    assert_eq!(verdict(forth.low, forth.high, 0.02), Verdict::Better);
    assert_eq!(verdict(back.low, back.high, 0.02), Verdict::Worse);
}

#[test]
fn few_cases_prove_nothing_however_clear_they_look() {
    let of = |candidate: usize, baseline: usize, cases: usize| {
        let found = compare(&hits(candidate, cases), &hits(baseline, cases), 1);
        (verdict(found.low, found.high, 0.02), found)
    };
    assert_eq!(of(5, 0, 5).0, Verdict::Inconclusive, "five wins of five: McNemar p = 0.06");
    assert_eq!(of(6, 0, 6).0, Verdict::Better, "six wins of six: McNemar p = 0.03");
    let (alike_few, found) = of(20, 20, 20);
    assert_eq!(alike_few, Verdict::Inconclusive, "{found:?}");
    assert!(found.minimum_detectable > 0.1, "{found:?}");
    assert_eq!(of(200, 200, 200).0, Verdict::NonInferior, "no loss in 200 cases");
}

#[test]
fn a_subject_that_never_hits_may_still_hit_sometimes() {
    let summary = summarise(&hits(0, 200), &alone(200), 1);
    assert_eq!((summary.mean, summary.low), (0.0, 0.0));
    // Clopper-Pearson for 0 of 200.
    assert!((summary.high - 0.018_275).abs() < 1e-5, "{summary:?}");
    let summary = summarise(&hits(0, 1), &alone(1), 1);
    assert!((summary.high - 0.975).abs() < 1e-12, "{summary:?}");
}

#[test]
fn the_same_seed_gives_the_same_bits_and_another_seed_nearly_the_same() {
    let (a, b) = (hits(61, 90), hits(40, 90));
    let bits = |seed| {
        let found = compare(&a, &b, seed);
        (found.low.to_bits(), found.high.to_bits())
    };
    assert_eq!(bits(5), bits(5));
    let (one, other) = (compare(&a, &b, 5), compare(&a, &b, 6));
    assert!((one.low - other.low).abs() < 0.012 && (one.high - other.high).abs() < 0.012);
}

#[test]
fn quantiles_interpolate() {
    assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.5), Some(2.0));
    assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.75), Some(3.0));
    assert_eq!(quantile(&[7.0], 0.95), Some(7.0));
    assert_eq!(quantile(&[], 0.5), None);
}

#[test]
fn cases_of_one_cluster_count_as_one_observation() {
    // Ten conversations of six turns, in seven of which the candidate wins every turn.
    let (candidate, baseline) = (hits(42, 60), hits(0, 60));
    let clusters: Vec<usize> = (0..60).map(|case| case / 6).collect();
    let (turns, talks) =
        (compare(&candidate, &baseline, 1), compare_clustered(&candidate, &baseline, &clusters, 1));
    assert!((turns.value - talks.value).abs() < 1e-12);
    assert!(talks.high - talks.low > 1.8 * (turns.high - turns.low), "{talks:?} {turns:?}");
    assert!(talks.minimum_detectable > 2.0 * turns.minimum_detectable);
    assert!(turns.mcnemar_p.is_some() && talks.mcnemar_p.is_none());
    let scores = hits(42, 60);
    let width = |clusters: &[usize]| {
        let summary = summarise(&scores, clusters, 1);
        summary.high - summary.low
    };
    assert!(width(&clusters) > 1.8 * width(&alone(60)));
}

#[test]
fn nothing_compared_says_nothing() {
    let found = compare(&[], &[], 1);
    assert_eq!(found, Difference::UNKNOWN);
    assert_eq!(verdict(found.low, found.high, 0.02), Verdict::Inconclusive);
}

/// The example of R's `p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")`.
#[test]
fn holm_corrects_for_the_number_of_looks() {
    let corrected = holm(&[0.01, 0.04, 0.03, 0.005]);
    for (found, wanted) in corrected.iter().zip([0.03, 0.06, 0.06, 0.02]) {
        assert!((found - wanted).abs() < 1e-12, "{corrected:?}");
    }
    assert_eq!(holm(&[0.9, 0.8]), [1.0, 1.0]);
    assert!(holm(&[]).is_empty());
}

#[test]
fn the_sign_test_and_mid_p_agree_with_scipy() {
    #[derive(Deserialize)]
    struct Case {
        wins: u64,
        losses: u64,
        p: f64,
        mid_p: f64,
    }
    for case in golden::<Case>(include_str!("../../tests/golden/stats/sign.json")) {
        let Case { wins, losses, .. } = case;
        let (p, mid) = (mcnemar_exact(wins, losses), mcnemar_mid_p(wins, losses));
        assert!((p - case.p).abs() < 1e-9, "{wins} to {losses}: {p}");
        assert!((mid - case.mid_p).abs() < 1e-9, "{wins} to {losses}: {mid}");
    }
}

#[test]
fn holm_agrees_with_statsmodels() {
    #[derive(Deserialize)]
    struct Case {
        p: Vec<f64>,
        corrected: Vec<f64>,
    }
    for case in golden::<Case>(include_str!("../../tests/golden/stats/holm.json")) {
        let found = holm(&case.p);
        assert_eq!(found.len(), case.corrected.len());
        for (found, wanted) in found.iter().zip(&case.corrected) {
            assert!((found - wanted).abs() < 1e-9, "{found}, not {wanted}");
        }
    }
}

#[test]
fn percentiles_agree_with_numpy() {
    #[derive(Deserialize)]
    struct Case {
        replicates: Vec<f64>,
        at: f64,
        value: f64,
    }
    for mut case in golden::<Case>(include_str!("../../tests/golden/stats/percentile.json")) {
        case.replicates.sort_by(f64::total_cmp);
        let found = quantile(&case.replicates, case.at).unwrap();
        assert!((found - case.value).abs() < 1e-9, "{found}, not {}", case.value);
    }
}

/// Scores between 0 and 1 and clusters have a p-value too, and 0/1 scores keep McNemar's.
#[test]
fn every_comparison_has_one_kind_of_p_value() {
    let graded: Vec<Score> = (0..20).map(|nth| Score::graded(f64::from(nth % 5) / 4.0)).collect();
    let found = compare(&graded, &hits(0, 20), 1);
    assert!(found.mcnemar_p.is_none() && found.mcnemar_mid_p.is_none());
    assert!(found.permutation_p.unwrap() < 0.001, "{found:?}");
    let found = compare(&hits(15, 20), &hits(9, 20), 1);
    assert!(found.mcnemar_p.is_some() && found.permutation_p.is_none());
    assert!(found.mcnemar_mid_p.unwrap() < found.mcnemar_p.unwrap());
}
