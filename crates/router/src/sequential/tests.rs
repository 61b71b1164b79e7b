//! Golden values come from independent implementations: `gbstats` 0.8.0 (confidence sequences),
//! SciPy (beta, gamma and normal functions) and `ville` 0.1.0 (beta-binomial).

#![allow(clippy::unreadable_literal, reason = "golden values are copied digit by digit")]

use super::*;

fn close(got: f64, wanted: f64) {
    assert!((got - wanted).abs() <= 1e-9, "got {got}, wanted {wanted}");
}

fn rate(successes: f64, n: f64) -> Moments {
    let mean = successes / n;
    Moments { n, mean, variance: mean * (1.0 - mean) }
}

fn sample(sum: f64, sum_of_squares: f64, n: f64) -> Moments {
    Moments { n, mean: sum / n, variance: (sum_of_squares - sum * sum / n) / (n - 1.0) }
}

#[test]
fn two_sided_sequences_match_gbstats() {
    let cases = [
        (rate(60.0, 100.0), rate(45.0, 100.0), 500.0, -0.3681060053992621, 0.06810600539926218),
        (rate(600.0, 1e3), rate(570.0, 1e3), 5e3, -0.09880119017262491, 0.03880119017262486),
        (rate(10.0, 1e3), rate(32.0, 1e3), 2e3, 0.0025945912432280387, 0.041405408756771955),
        (rate(1396.0, 3e3), rate(2422.0, 3461.0), 5e3, 0.19804879693925878, 0.2708800290262618),
        (
            sample(1396.87, 52377.9767, 3e3),
            sample(2422.7, 134698.29, 3461.0),
            1e3,
            -0.17908917909394972,
            0.6478425124272831,
        ),
    ];
    for (control, treatment, n_star, lower, upper) in cases {
        let difference = Difference::of(treatment, control);
        let h = difference.two_sided(0.05, n_star);
        close(difference.delta - h, lower);
        close(difference.delta + h, upper);
    }
}

#[test]
fn one_sided_bounds_and_e_values_match_the_reference() {
    let cases = [
        (60.0, 45.0, 100.0, 500.0, -0.3515049586, 0.0515049586, 0.19178314974972402),
        (600.0, 570.0, 1e3, 5e3, -0.0935644166, 0.0335644166, 0.25744745656157353),
        (10.0, 32.0, 1e3, 2e3, 0.004232044060, 0.039767955940, 122.61829066603902),
    ];
    for (control, treatment, n, n_star, lower, upper, e) in cases {
        let difference = Difference::of(rate(treatment, n), rate(control, n));
        let h = difference.one_sided(0.05, n_star);
        close(difference.delta - h, lower);
        close(difference.delta + h, upper);
        close(difference.ln_e_above(0.0, 0.05, n_star).exp(), e);
    }
    let difference = Difference::of(rate(2422.0, 3461.0), rate(1396.0, 3e3));
    close(difference.delta - difference.one_sided(0.05, 5e3), 0.2011456165);
    close(difference.delta + difference.one_sided(0.05, 5e3), 0.2677832095);
}

#[test]
fn identical_values_do_not_close_the_interval() {
    let (all, none) = (Moments::smoothed(10, 10.0, 10.0), Moments::smoothed(10, 0.0, 0.0));
    assert_eq!((all.mean, none.mean), (1.0, 0.0));
    let width = |n: u64| {
        let arm = Moments::smoothed(n, 0.0, 0.0);
        Difference::of(arm, arm).one_sided(0.05, 1000.0)
    };
    assert!(Difference::of(none, all).one_sided(0.05, 1000.0) > 0.3);
    assert!(width(10) > 0.3 && width(50) > 0.05 && width(100_000) < 0.001);
    // With spread in the data the two extra values hardly matter.
    let smoothed = Moments::smoothed(1000, 600.0, 600.0).variance;
    assert!((smoothed - rate(600.0, 1000.0).variance).abs() < 1e-3);
}

#[test]
fn limit_e_values_match_the_reference() {
    for (bad, n, wanted) in [
        (3, 6, 6.875232087276577),
        (2, 4, 4.483379128934169),
        (12, 200, 2.202965237390771),
        (4, 200, -4.13048773529945),
        (30, 1000, -2.0792075811176574),
    ] {
        close(ln_e_above_limit(bad, n, 0.02), wanted);
    }
    close(ln_e_above_limit(0, 0, 0.02), 0.0);
}

#[test]
fn limit_e_values_are_fair_bets_at_the_limit_and_stay_finite() {
    // Expectation over all outcomes of 40 units that sit exactly at the limit.
    let (n, limit) = (40_u64, 0.05_f64);
    let mut expectation = 0.0;
    let mut probability = (1.0 - limit).powi(40);
    for k in 0..=n {
        expectation += probability * ln_e_above_limit(k, n, limit).exp();
        probability *= (n - k) as f64 / (k + 1) as f64 * limit / (1.0 - limit);
    }
    close(expectation, 1.0);
    let quiet = ln_e_above_limit(0, 1_000_000, 0.02);
    assert!(quiet.is_finite() && quiet < -10.0);
    assert!(ln_e_above_limit(20_000, 20_000, 0.005).is_finite());
}

#[test]
fn a_total_failure_trips_the_limit_after_three_units() {
    let tripped = |bad| ln_e_above_limit(bad, bad, 0.02) >= 1000_f64.ln();
    assert!(!tripped(2) && tripped(3));
}

#[test]
fn paired_e_values_match_the_reference() {
    let pattern = [(true, false), (true, false), (false, false), (true, true), (true, false)];
    let mut tally = PairedTally::default();
    let mut golden = std::collections::BTreeMap::from([
        (5, -0.6755383778309597),
        (20, 4.230665443899738),
        (50, 15.235900962368639),
        (100, 34.09123308006622),
    ]);
    for (baseline, canary) in pattern.into_iter().cycle().take(100) {
        tally.push(baseline, canary);
        if let Some(wanted) = golden.remove(&tally.pairs) {
            close(tally.ln_e, wanted);
        }
    }
    assert!(golden.is_empty());
}

#[test]
fn paired_e_values_never_bet_on_a_better_canary_and_are_fair_when_equal() {
    let mut better = PairedTally::default();
    (0..50).for_each(|_| better.push(false, true));
    assert_eq!((better.ln_e, better.ln_e_max), (0.0, 0.0));

    // All 4⁵ sequences of five blocks with both arms at 0.7: the expectation may not exceed 1.
    let p = |success| if success { 0.7 } else { 0.3 };
    let expectation: f64 = (0_u32..1024)
        .map(|bits| {
            let mut tally = PairedTally::default();
            let mut probability = 1.0;
            for block in 0..5 {
                let (b, c) = (bits >> (2 * block) & 1 == 1, bits >> (2 * block + 1) & 1 == 1);
                tally.push(b, c);
                probability *= p(b) * p(c);
            }
            probability * tally.ln_e.exp()
        })
        .sum();
    assert!(expectation <= 1.0 + 1e-12, "{expectation}");
}

#[test]
fn sample_ratio_e_values_match_the_reference() {
    close(ln_e_sample_ratio([5000, 5000], [0.5, 0.5]), -1.9671383013264858);
    close(ln_e_sample_ratio([5100, 4900], [0.5, 0.5]), -0.006036042024788912);
    close(ln_e_sample_ratio([10300, 9700], [0.5, 0.5]), 6.603845314020873);
    close(ln_e_sample_ratio([905, 110], [0.9, 0.1]), -0.6118162216608312);
}
