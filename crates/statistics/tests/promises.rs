//! What the formulas promise: fair bets, time-uniform coverage, symmetry, and merging without loss.

#![allow(clippy::unwrap_used, reason = "a missing value is a failure of the test")]

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use understudy_statistics::{
    BettingGrid, Block, BlockTally, Claim, Difference, EmpiricalBernstein, Exceedance, LimitTally,
    Moments, QuantileSample, Running, all_of, any_of, ln_e_above_limit, ln_e_sample_ratio, reaches,
    wilson,
};

fn close(got: f64, wanted: f64) {
    assert!((got - wanted).abs() <= 1e-9, "got {got}, wanted {wanted}");
}

/// `α + 3σ` of a share measured over some runs.
fn ceiling(alpha: f64, runs: u32) -> f64 {
    alpha + 3.0 * (alpha * (1.0 - alpha) / f64::from(runs)).sqrt()
}

/// The share of seeded runs in which `alarm`, asked after every tenth pair of units, ever holds.
fn ever(
    runs: u32,
    (control, treatment): (f64, f64),
    mut alarm: impl FnMut(u64, [u64; 2], &BlockTally) -> bool,
) -> f64 {
    let alarms = (0..runs).filter(|run| {
        let mut chance = ChaCha8Rng::seed_from_u64(u64::from(*run));
        let (mut counts, mut blocks) = ([0; 2], BlockTally::default());
        (1..=1500).any(|n| {
            let seen = [chance.random_bool(control), chance.random_bool(treatment)];
            counts[0] += u64::from(seen[0]);
            counts[1] += u64::from(seen[1]);
            blocks.push(Block::single(seen[0]), Block::single(seen[1]));
            n >= 50 && n % 10 == 0 && alarm(n, counts, &blocks)
        })
    });
    f64::from(alarms.count() as u32) / f64::from(runs)
}

fn compared(n: u64, [control, treatment]: [u64; 2]) -> Difference {
    Difference::of(Moments::proportion(treatment, n), Moments::proportion(control, n))
}

#[test]
fn sequences_cover_the_truth_at_all_looks_together() {
    let runs = 400;
    for (rate, alpha) in [(0.6, 0.05), (0.05, 0.05), (0.3, 0.2)] {
        let upper =
            ever(runs, (rate, rate), |n, counts, _| compared(n, counts).upper(alpha, 1000.0) < 0.0);
        assert!(upper <= ceiling(alpha, runs), "one-sided at {rate}: {upper}");
        let both = ever(runs, (rate, rate), |n, counts, _| {
            let interval = compared(n, counts).interval(alpha, 1000.0);
            interval.lower > 0.0 || interval.upper < 0.0
        });
        assert!(both <= ceiling(alpha, runs), "two-sided at {rate}: {both}");
    }
    // A test for one look, asked as often, is wrong far more often than that: the reason for all this.
    let naive = ever(runs, (0.6, 0.6), |n, counts, _| {
        let one = compared(n, counts);
        one.delta < -1.645 * one.standard_error_squared.sqrt()
    });
    assert!(naive > 0.2, "{naive}");
}

#[test]
fn exact_tests_hold_their_level_and_find_what_is_there() {
    let runs = 300;
    let harmless = ever(runs, (0.7, 0.7), |_, _, blocks| reaches(blocks.ln_e_max, 0.05));
    assert!(harmless <= ceiling(0.05, runs), "{harmless}");
    let harmful = ever(runs, (0.7, 0.5), |_, _, blocks| reaches(blocks.ln_e_max, 0.05));
    assert!(harmful > 0.99, "{harmful}");
    let at_limit =
        ever(runs, (0.1, 0.02), |n, [_, bad], _| reaches(ln_e_above_limit(bad, n, 0.02), 0.05));
    assert!(at_limit <= ceiling(0.05, runs), "{at_limit}");
    let fair = ever(runs, (0.5, 0.5), |n, [heads, _], _| {
        reaches(ln_e_sample_ratio([heads, n - heads], [0.5, 0.5]), 0.05)
    });
    assert!(fair <= ceiling(0.05, runs), "{fair}");
}

#[test]
fn one_mean_is_covered_at_all_times_by_betting_and_by_bernstein() {
    let (runs, alpha) = (120, 0.1);
    let missed = (0..runs).filter(|run| {
        let mut chance = ChaCha8Rng::seed_from_u64(u64::from(*run));
        let (mut grid, mut bernstein) =
            (BettingGrid::new(alpha, 100), EmpiricalBernstein::new(alpha));
        (1..=300).any(|n| {
            let value = chance.random::<f64>().powi(3); // Mean 1/4.
            grid.push(value);
            bernstein.push(value);
            let (bet, plain) = (grid.interval(), bernstein.interval());
            n % 10 == 0
                && (bet.lower > 0.25
                    || bet.upper < 0.25
                    || plain.lower > 0.25
                    || plain.upper < 0.25)
        })
    });
    let missed = f64::from(missed.count() as u32) / f64::from(runs);
    assert!(missed <= ceiling(2.0 * alpha, runs), "{missed}");
}

#[test]
fn a_difference_is_antisymmetric_and_its_bounds_are_its_tests() {
    let (a, b) = (Moments::proportion(45, 100), Moments::proportion(600, 1000));
    let (there, back) = (Difference::of(a, b), Difference::of(b, a));
    close(there.delta, -back.delta);
    close(there.lower(0.05, 500.0), -back.upper(0.05, 500.0));
    // The e-value against a two-sided bound's end is 1/α; beyond it, more.
    let interval = there.interval(0.05, 500.0);
    close(there.ln_e(interval.lower, 0.05, 500.0), 20_f64.ln());
    assert!(reaches(there.ln_e(interval.upper + 0.01, 0.05, 500.0), 0.05));
    // The one-sided bound is a close upper estimate of the one-sided test, never below it.
    let lower = there.lower(0.05, 500.0);
    let at = there.ln_e_above(lower, 0.05, 500.0);
    assert!(at >= 20_f64.ln() && at < 20.6_f64.ln(), "{}", at.exp());
}

#[test]
fn bounds_narrow_with_units_and_widen_with_confidence() {
    let at = |n: u64, alpha| compared(n, [n * 6 / 10, n * 6 / 10]).one_sided(alpha, 1000.0);
    for n in [50_u64, 200, 1000, 20_000] {
        assert!(at(2 * n, 0.05) < at(n, 0.05));
        assert!(at(n, 0.01) > at(n, 0.05));
        let two = compared(n, [n * 6 / 10, n * 6 / 10]).two_sided(0.05, 1000.0);
        assert!(two > at(n, 0.05), "a bound on both sides costs more");
    }
}

#[test]
fn limit_e_values_are_fair_bets_at_the_limit_and_stay_finite() {
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
    assert!(ln_e_above_limit(1_000_000, 1_000_000, 0.005).is_finite());
    // More bad units are more evidence, on either side of the limit.
    let rising: Vec<f64> = (0..=500).map(|bad| ln_e_above_limit(bad, 500, 0.3)).collect();
    assert!(rising.is_sorted_by(|less, more| less < more));
}

#[test]
fn the_breaker_needs_three_failures_in_a_row() {
    let tripped = |bad| reaches(ln_e_above_limit(bad, bad, 0.02), 0.001);
    assert!(!tripped(2) && tripped(3));
}

#[test]
fn blocks_never_bet_on_a_better_treatment_and_are_fair_when_equal() {
    let mut better = BlockTally::default();
    (0..50).for_each(|_| better.push(Block::single(false), Block::single(true)));
    assert_eq!((better.ln_e, better.ln_e_max), (0.0, 0.0));

    // All sequences of four blocks of two control units and one treatment unit, all at 0.7.
    let p = |successes: u32, units: u32| {
        0.7_f64.powi(successes as i32) * 0.3_f64.powi((units - successes) as i32)
    };
    let expectation: f64 = (0_u32..1 << 12)
        .map(|bits| {
            let mut tally = BlockTally::default();
            for block in 0..4 {
                let three = bits >> (3 * block) & 7;
                let control = Block { successes: u64::from((three & 3).count_ones()), units: 2 };
                tally.push(control, Block::single(three & 4 != 0));
            }
            p(bits.count_ones(), 12) * tally.ln_e.exp()
        })
        .sum();
    assert!(expectation <= 1.0 + 1e-12 && expectation > 0.9, "{expectation}");
}

#[test]
fn accumulators_merge_as_if_they_had_seen_everything_and_survive_storage() {
    let mut chance = ChaCha8Rng::seed_from_u64(7);
    let values: Vec<f64> = (0..999).map(|_| 1e6 + chance.random::<f64>()).collect();
    let (left, right) = values.split_at(313);
    let of = |values: &[f64]| {
        let (mut running, mut over) = (Running::default(), Exceedance::over(1e6 + 0.9));
        for value in values {
            running.push(*value);
            over.push(*value);
        }
        (running, over)
    };
    let ((mut running, mut over), (other, also_over)) = (of(left), of(right));
    running.merge(&other);
    assert!(over.merge(&also_over) && !over.merge(&Exceedance::over(1.0)));
    let (whole, whole_over) = of(&values);
    assert_eq!((running.count(), over), (whole.count(), whole_over));
    close(running.mean(), whole.mean());
    close(running.moments().variance, whole.moments().variance);
    // The naive sum of squares would have lost all digits here.
    assert!((whole.moments().variance - 1.0 / 12.0).abs() < 0.01);
    let mut limit = LimitTally::default();
    limit.merge(&over.tally());
    assert_eq!(limit, over.tally());
    let text = serde_json::to_string(&(running, over)).unwrap();
    assert_eq!(serde_json::from_str::<(Running, Exceedance)>(&text).unwrap(), (running, over));

    let mut halves = [BlockTally::default(); 2];
    for (nth, half) in halves.iter_mut().enumerate() {
        (0..20).for_each(|_| half.push(Block::single(true), Block::single(nth == 0)));
    }
    let [mut joint, second] = halves;
    joint.merge(&second);
    close(joint.ln_e, halves[0].ln_e + second.ln_e);
    assert_eq!((joint.blocks, joint.treatment_successes), (40, 20));
}

#[test]
fn a_threshold_is_the_quantile_it_says() {
    let mut values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
    let mut over = Exceedance::at_quantile(&mut values, 0.95).unwrap();
    assert_eq!(over.threshold(), 190.0);
    for value in values {
        over.push(value);
    }
    assert_eq!((over.tally().bad, over.tally().units), (10, 200));
    assert!(Exceedance::at_quantile(&mut [], 0.95).is_none());
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
    let smoothed = Moments::smoothed(1000, 600.0, 600.0).variance;
    assert!((smoothed - Moments::proportion(600, 1000).variance).abs() < 1e-3);
}

#[test]
fn claims_rise_with_the_gain() {
    let arm = |mean| Moments { n: 2000.0, mean, variance: 0.2 };
    let claims = [0.4, 0.58, 0.6, 0.8]
        .map(|mean| Difference::of(arm(mean), arm(0.6)).claim(0.05, (0.05, 0.05), 1000.0));
    assert_eq!(claims, [Claim::Worse, Claim::Open, Claim::NonInferior, Claim::Superior]);
}

#[test]
fn levels_are_shared_where_any_and_whole_where_all() {
    close(any_of(0.05, 4), 0.0125);
    close(any_of(0.05, 0), 0.05);
    close(all_of(0.05), 0.05);
    let rare = wilson(0, 1000, 0.05);
    assert!(rare.lower < 1e-12 && (rare.upper - 0.003_826_758_485).abs() < 1e-9);
    assert_eq!((wilson(0, 0, 0.05).lower, wilson(0, 0, 0.05).upper), (0.0, 1.0));
}

#[test]
fn a_quantile_is_covered_at_all_times_and_unbounded_while_little_is_known() {
    let (runs, alpha, q) = (120, 0.1, 0.9);
    let missed = (0..runs).filter(|run| {
        let mut chance = ChaCha8Rng::seed_from_u64(u64::from(*run));
        let mut values = Vec::new();
        (1..=20).any(|_| {
            values.extend((0..20).map(|_| chance.random::<f64>()));
            let interval = QuantileSample::new(&mut values, q, 200.0).interval(alpha);
            interval.lower > q || interval.upper < q
        })
    });
    let missed = f64::from(missed.count() as u32) / f64::from(runs);
    assert!(missed <= ceiling(alpha, runs), "{missed}");
    let mut few = [0.5, 0.2];
    let interval = QuantileSample::new(&mut few, q, 200.0).interval(alpha);
    assert_eq!((interval.lower, interval.upper), (f64::NEG_INFINITY, f64::INFINITY));
    let mut many: Vec<f64> = (0..2000).map(f64::from).collect();
    let interval = QuantileSample::new(&mut many, q, 200.0).interval(alpha);
    assert!(interval.lower > 1700.0 && interval.upper < 1900.0 && interval.lower < interval.upper);
}

#[test]
fn e_values_of_a_sequence_are_fair_at_a_fixed_time() {
    // Asymptotically: the mean over runs of E at 400 units per arm, beside one and its error.
    let runs = 2000;
    let mut running = Running::default();
    for run in 0..runs {
        let mut chance = ChaCha8Rng::seed_from_u64(run);
        let mut count = || (0..400).filter(|_| chance.random_bool(0.6)).count() as u64;
        let difference = compared(400, [count(), count()]);
        running.push(difference.ln_e_above(0.0, 0.05, 1000.0).exp());
    }
    let error = (running.moments().variance / runs as f64).sqrt();
    assert!(running.mean() <= 1.0 + 3.0 * error, "{} ± {error}", running.mean());
}
