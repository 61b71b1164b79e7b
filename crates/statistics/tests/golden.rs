//! Golden values of independent implementations: `gbstats` 0.8.0 (confidence sequences), SciPy and
//! statsmodels (distributions, batch tests), `ville` 0.1.0 (beta-binomial), `spotify-confidence`
//! 4.1.0 (spending) and `confseq` 0.0.11 (mixtures, betting).

#![allow(clippy::unreadable_literal, reason = "golden values are copied digit by digit")]
#![allow(clippy::unwrap_used, reason = "a missing value is a failure of the test")]

use understudy_statistics::{
    BettingGrid, Block, BlockTally, Difference, EmpiricalBernstein, Interval, LimitTally, Moments,
    QuantileSample, bernoulli_interval, chi_square_p, farrington_manning, ln_e_above_limit,
    ln_e_sample_ratio, newcombe, normal_mixture_bound, spending_bounds, wilson,
};

fn close(got: f64, wanted: f64) {
    near(got, wanted, 1e-9);
}

fn near(got: f64, wanted: f64, tolerance: f64) {
    assert!((got - wanted).abs() <= tolerance, "got {got}, wanted {wanted}");
}

fn spans(got: Interval, lower: f64, upper: f64, tolerance: f64) {
    near(got.lower, lower, tolerance);
    near(got.upper, upper, tolerance);
}

/// Control and treatment as `(successes, n)`, and `N*`.
type Case = ((u64, u64), (u64, u64), f64);

const CASES: [Case; 4] = [
    ((60, 100), (45, 100), 500.0),
    ((600, 1000), (570, 1000), 5000.0),
    ((10, 1000), (32, 1000), 2000.0),
    ((1396, 3000), (2422, 3461), 5000.0),
];

fn difference((control, treatment, _): Case) -> Difference {
    Difference::of(
        Moments::proportion(treatment.0, treatment.1),
        Moments::proportion(control.0, control.1),
    )
}

fn means() -> (Moments, Moments) {
    (Moments::sample(3000, 1396.87, 52377.9767), Moments::sample(3461, 2422.7, 134698.29))
}

#[test]
fn two_sided_sequences_and_p_values_match_gbstats() {
    let wanted = [
        (-0.3681060053992621, 0.06810600539926218, 0.35331769084649456),
        (-0.09880119017262491, 0.03880119017262486, 1.0),
        (0.0025945912432280387, 0.041405408756771955, 0.015564293274172938),
        (0.19804879693925878, 0.2708800290262618, 6.300128463e-76),
    ];
    for (case, (lower, upper, p)) in CASES.into_iter().zip(wanted) {
        let difference = difference(case);
        spans(difference.interval(0.05, case.2), lower, upper, 1e-12);
        near(difference.p_value(0.05, case.2) / p, 1.0, 1e-9);
    }
    let (control, treatment) = means();
    let difference = Difference::of(treatment, control);
    close(difference.delta, 0.23437666666666668);
    spans(difference.interval(0.05, 1e3), -0.17908917909394972, 0.6478425124272831, 1e-9);
}

#[test]
fn relative_lifts_match_gbstats() {
    let (control, treatment, n_star) = CASES[3];
    let lift = Difference::relative(
        Moments::proportion(treatment.0, treatment.1),
        Moments::proportion(control.0, control.1),
    );
    close(lift.delta, 0.5038633516821496);
    spans(lift.interval(0.05, n_star), 0.4009784966859415, 0.6067482066783577, 1e-9);
    let (control, treatment) = means();
    let lift = Difference::relative(treatment, control);
    close(lift.delta, 0.5033610858562358);
    spans(lift.interval(0.05, 1e3), -0.5584405051077315, 1.5651626768202032, 1e-9);
}

#[test]
fn one_sided_bounds_and_e_values_match_the_reference() {
    let wanted = [
        (-0.3515049586, 0.0515049586, Some(0.19178314974972402)),
        (-0.0935644166, 0.0335644166, Some(0.25744745656157353)),
        (0.0042320440600, 0.0397679559400, Some(122.61829066603902)),
        (0.2011456165, 0.2677832095, None),
    ];
    for (case, (lower, upper, e)) in CASES.into_iter().zip(wanted) {
        let difference = difference(case);
        close(difference.lower(0.05, case.2), lower);
        close(difference.upper(0.05, case.2), upper);
        if let Some(e) = e {
            close(difference.ln_e_above(0.0, 0.05, case.2).exp(), e);
        }
    }
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
    close(LimitTally::default().ln_e(0.02), 0.0);
}

#[test]
fn block_e_values_match_the_reference() {
    let pattern = [(true, false), (true, false), (false, false), (true, true), (true, false)];
    let mut golden = std::collections::BTreeMap::from([
        (5, -0.6755383779308597),
        (20, 4.230665443899738),
        (50, 15.235900962368639),
        (100, 34.09123308006622),
    ]);
    let mut tally = BlockTally::default();
    for (control, treatment) in pattern.into_iter().cycle().take(100) {
        tally.push(Block::single(control), Block::single(treatment));
        if let Some(wanted) = golden.remove(&tally.blocks) {
            close(tally.ln_e, wanted);
        }
    }
    assert!(golden.is_empty());
}

#[test]
fn sample_ratios_match_the_reference() {
    close(ln_e_sample_ratio([5000, 5000], [0.5, 0.5]), -1.9671383013264858);
    close(ln_e_sample_ratio([5100, 4900], [0.5, 0.5]), -0.006036042024788912);
    close(ln_e_sample_ratio([10300, 9700], [0.5, 0.5]), 6.603845314020873);
    close(ln_e_sample_ratio([905, 110], [0.9, 0.1]), -0.6118162216608312);
    close(chi_square_p([5100, 4900]), 0.04550026389635857);
    close(chi_square_p([10300, 9700]), 2.2090496998585475e-05);
}

#[test]
fn batch_tests_match_scipy_and_statsmodels() {
    // The root of the score equation, found by SciPy. statsmodels 0.15 says 0.908130872482731: its
    // cubic has the control's successes where Miettinen and Nurminen have its units, so its
    // restricted rate of 0.5586 is not the most likely one, which is 0.5598.
    let test = farrington_manning((570, 1000), (600, 1000), -0.05);
    close(test.z, 0.9087534917069993);
    close(test.p, 0.18174013062823258);
    near(test.z, 0.908130872482731, 1e-3);
    let interval = newcombe((570, 1000), (600, 1000), 0.05);
    spans(interval, -0.07301173107140099, 0.01316925827629259, 1e-9);
}

#[test]
fn spending_bounds_match_spotify_confidence() {
    for (power, wanted) in [
        (1.0, [2.326348, 2.219262, 2.120077, 2.033127, 1.955934]),
        (2.0, [2.878162, 2.470191, 2.200908, 1.981767, 1.790172]),
        (3.0, [3.352795, 2.752534, 2.350262, 2.018896, 1.722339]),
    ] {
        let got = spending_bounds(&[0.2, 0.4, 0.6, 0.8, 1.0], 0.05, power);
        for (got, wanted) in got.into_iter().zip(wanted) {
            near(got, wanted, 2e-4);
        }
    }
}

#[test]
fn mixture_bounds_match_confseq() {
    for (k, n, n_best, lower, upper) in [
        (600, 1000, 500.0, 0.552079691190829, 0.6468360195325659),
        (60, 100, 100.0, 0.44836874256134246, 0.7409651082871278),
        (3, 1000, 500.0, 7.465396338382393e-05, 0.011220685163270256),
    ] {
        spans(bernoulli_interval(k, n, 0.05, n_best), lower, upper, 1e-9);
    }
    close(normal_mixture_bound(1e3, 0.05, 1e3, false), 87.47084159966789);
    close(normal_mixture_bound(1e3, 0.05, 1e3, true), 95.98173584209047);
}

#[test]
fn betting_sequences_match_confseq() {
    let pattern = "1011011101".chars().map(|c| f64::from(u8::from(c == '1')));
    let (mut grid, mut bernstein) = (BettingGrid::new(0.05, 1000), EmpiricalBernstein::new(0.05));
    let mut golden = std::collections::BTreeMap::from([
        (10, (0.273, 0.994)),
        (50, (0.497, 0.868)),
        (100, (0.551, 0.834)),
    ]);
    for (nth, value) in (1..=100).zip(pattern.cycle()) {
        grid.push(value);
        bernstein.push(value);
        if let Some((lower, upper)) = golden.remove(&nth) {
            spans(grid.interval(), lower, upper, 1e-9);
        }
    }
    assert!(golden.is_empty());
    spans(bernstein.interval(), 0.5330759905179512, 0.8600962767647913, 1e-9);
}

#[test]
fn a_shift_of_the_median_matches_confseq() {
    let mut there: Vec<f64> = (1..=200).map(|tenth| f64::from(tenth) / 10.0).collect();
    let mut further: Vec<f64> = there.iter().map(|value| value + 5.5).collect();
    let there = QuantileSample::new(&mut there, 0.5, 100.0);
    let further = QuantileSample::new(&mut further, 0.5, 100.0);
    near(there.same_p_value(&further) / 1.5767959345336708e-05, 1.0, 1e-6);
    assert_eq!(there.same_p_value(&there), 1.0);
}

/// Made by `crates/evaluation/tests/golden/make_stats_golden.py` with statsmodels.
#[derive(serde::Deserialize)]
struct Rates {
    cases: Vec<RateCase>,
}

#[derive(serde::Deserialize)]
struct RateCase {
    treatment: (u64, u64),
    #[serde(default)]
    control: (u64, u64),
    alpha: f64,
    lower: f64,
    upper: f64,
}

#[test]
fn intervals_of_rates_match_statsmodels() {
    let read = |text| serde_json::from_str::<Rates>(text).unwrap().cases;
    for case in read(include_str!("golden/wilson.json")) {
        let (successes, n) = case.treatment;
        spans(wilson(successes, n, case.alpha), case.lower, case.upper, 1e-9);
    }
    for case in read(include_str!("golden/newcombe.json")) {
        let found = newcombe(case.treatment, case.control, case.alpha);
        spans(found, case.lower, case.upper, 1e-9);
    }
}
