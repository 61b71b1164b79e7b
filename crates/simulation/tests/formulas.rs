//! Single formulas against known operating characteristics: a look every 20 units per arm up to
//! 10 000, computed once with two thousand runs each and kept here as medians.

#![allow(clippy::unwrap_used, reason = "a missing median is a failure of the test")]

use understudy_simulation::{Looks, Method, Quantiles, Share, Stopping, stopping};

const RUNS: u32 = 300;
const LOOKS: Looks = Looks { every: 20, up_to: 10_000, controls: 1 };

fn falls(method: Method, rates: (f64, f64)) -> Stopping {
    stopping(method, rates, 0.05, LOOKS, (RUNS, 1))
}

/// `α + 3√(α(1−α)/R)`.
fn ceiling(alpha: f64) -> f64 {
    alpha + 3.0 * (alpha * (1.0 - alpha) / f64::from(RUNS)).sqrt()
}

/// Within 15 %; a median of a few units jumps by two with the parity of what it takes.
#[track_caller]
fn median_near(found: Stopping, wanted: f64) {
    let median = found.units.unwrap().p50;
    let near = (median - wanted).abs() <= f64::max(0.15 * wanted, 2.0);
    assert!(near, "median {median}, wanted {wanted}");
}

#[test]
fn identical_arms_rarely_stop_but_for_the_naive_test() {
    for method in [
        Method::OneSided { n_star: 5000.0 },
        Method::OneSided { n_star: 1000.0 },
        Method::TwoSided { n_star: 5000.0 },
        Method::Blocks,
    ] {
        let false_alarms = falls(method, (0.6, 0.6)).stopped.share;
        assert!(false_alarms <= ceiling(0.05), "{method:?}: {false_alarms}");
    }
    let naive = falls(Method::Naive, (0.6, 0.6)).stopped.share;
    assert!((0.3..0.5).contains(&naive), "{naive}");
}

#[test]
fn falls_are_found_after_the_known_number_of_units() {
    for (method, at_055, at_050, at_040) in [
        (Method::OneSided { n_star: 5000.0 }, 1320.0, 480.0, 200.0),
        (Method::TwoSided { n_star: 5000.0 }, 1540.0, 520.0, 200.0),
        (Method::Blocks, 2160.0, 540.0, 140.0),
    ] {
        for (treatment, wanted) in [(0.55, at_055), (0.50, at_050), (0.40, at_040)] {
            let found = falls(method, (0.6, treatment));
            assert!(found.stopped.share > 0.98, "{method:?} at {treatment}");
            median_near(found, wanted);
        }
    }
}

#[test]
fn rare_errors_are_neither_mistaken_nor_missed() {
    let method = Method::OneSided { n_star: 1000.0 };
    for good in [0.95, 0.99, 0.998] {
        let false_alarms = falls(method, (good, good)).stopped.share;
        assert!(false_alarms <= ceiling(0.05), "{good}: {false_alarms}");
    }
    median_near(falls(method, (0.99, 0.97)), 650.0);
    median_near(falls(method, (0.99, 0.95)), 280.0);
}

#[test]
fn a_larger_control_does_not_mislead_either() {
    let looks = Looks { every: 20, up_to: 3_000, controls: 9 };
    for good in [0.6, 0.95, 0.99, 0.998] {
        for method in [Method::OneSided { n_star: 1000.0 }, Method::Blocks] {
            let found = stopping(method, (good, good), 0.05, looks, (200, 1));
            assert!(found.stopped.share <= ceiling(0.05), "{method:?} {good}: {found:?}");
        }
    }
    let found = stopping(Method::Blocks, (0.9, 0.7), 0.05, looks, (50, 1));
    assert_eq!(found.stopped.count, 50);
}

#[test]
fn four_guards_share_the_error_and_pay_with_delay() {
    let one_of_four = Method::OneOf { guards: 4, n_star: 2000.0 };
    assert!(falls(one_of_four, (0.6, 0.6)).stopped.share <= ceiling(0.0125));
    median_near(falls(one_of_four, (0.6, 0.55)), 1820.0);
    median_near(falls(one_of_four, (0.99, 0.97)), 940.0);
}

#[test]
fn the_breaker_trips_as_fast_as_it_should_and_not_at_the_limit() {
    let looks = Looks { every: 1, up_to: 5_000, controls: 1 };
    let trips = |bad: f64| {
        stopping(Method::Limit { limit: 0.02 }, (1.0, 1.0 - bad), 0.001, looks, (200, 1))
    };
    for (bad, wanted) in [(0.05, 588.0), (0.1, 101.0), (0.2, 27.0), (0.5, 7.0), (1.0, 3.0)] {
        median_near(trips(bad), wanted);
    }
    assert!(trips(0.5).units.unwrap().p95 <= 17.0);
    assert_eq!((trips(0.02).stopped.count, trips(0.005).stopped.count), (0, 0));
}

#[test]
fn quantiles_are_values_that_were_seen() {
    let quantiles = Quantiles::of((1..=10).rev().map(f64::from).collect()).unwrap();
    assert_eq!((quantiles.p10, quantiles.p50), (1.0, 5.0));
    assert_eq!((quantiles.p90, quantiles.p95), (9.0, 10.0));
    assert_eq!(Quantiles::of(Vec::new()), None);
    assert_eq!((Share::of(0, 0).share, Share::of(1, 4).share), (0.0, 0.25));
}

#[test]
fn a_fair_split_is_rarely_called_unfair() {
    let found = stopping(Method::SampleRatio, (0.5, 0.5), 0.01, LOOKS, (RUNS, 1));
    assert!(found.stopped.share <= 0.015, "{}", found.stopped.share);
    // Nine units to eleven.
    let unfair = stopping(Method::SampleRatio, (0.5, 0.55), 0.01, LOOKS, (RUNS, 1));
    assert!(unfair.stopped.share > 0.99, "{}", unfair.stopped.share);
}
