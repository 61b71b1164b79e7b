//! Single formulas against known operating characteristics: a look every 20 units per arm up to
//! 10 000, computed once with two thousand runs each and kept here as medians.

#![allow(clippy::unwrap_used, reason = "a missing median is a failure of the test")]

use understudy_simulation::{
    Counted, Looks, Method, Quantiles, Share, Stopping, Users, clustered, stopping,
};
use understudy_statistics::upper_quantile;

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
fn the_rules_of_other_programs_do_as_they_are_known_to() {
    let planned = Looks { every: 500, ..LOOKS };
    for (method, looks, at_055, at_050, bound) in [
        (Method::MixtureRatio { tau: 0.05 }, LOOKS, 1480.0, 480.0, 0.025),
        (Method::GapRatio, LOOKS, 1620.0, 420.0, 0.025),
        (Method::Planned, planned, 2000.0, 1000.0, 0.025),
        (Method::LogLevel, LOOKS, 1000.0, 280.0, 0.06),
    ] {
        let run = |treatment| stopping(method, (0.6, treatment), 0.05, looks, (RUNS, 1));
        let false_alarms = run(0.6).stopped.share;
        assert!(false_alarms <= ceiling(bound), "{method:?}: {false_alarms}");
        median_near(run(0.55), at_055);
        median_near(run(0.50), at_050);
    }
}

#[test]
fn thresholds_take_harmless_canaries_off() {
    // Ten minutes of sixty with a failure among twenty requests; four windows of twenty-four with
    // fewer than 95 successes of a hundred.
    let minutes =
        (Method::Windows { least: 0.99, bad: 10 }, Looks { every: 20, up_to: 1_200, controls: 1 });
    let windows =
        (Method::Windows { least: 0.95, bad: 4 }, Looks { every: 100, up_to: 2_400, controls: 1 });
    for ((method, looks), success, stated) in [
        (minutes, 0.99, 0.69),
        (minutes, 0.995, 0.06),
        (windows, 0.95, 0.99),
        (windows, 0.96, 0.77),
        (windows, 0.97, 0.12),
    ] {
        let found = stopping(method, (1.0, success), 0.05, looks, (1_000, 1)).stopped.share;
        // Three standard deviations of a thousand runs.
        let room = 3.0 * (stated * (1.0_f64 - stated) / 1_000.0).sqrt() + 0.01;
        assert!((found - stated).abs() <= room, "{success}: {found}, stated {stated}");
    }
}

/// How many latencies exceed a p95 once all are so many times as long: log-normal ones, of the
/// spread that whole releases are simulated with.
fn exceeding(times: f64) -> f64 {
    let z = upper_quantile(0.05) - times.ln() / 0.6;
    // The upper tail, by bisection of its inverse.
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if upper_quantile(middle) > z { low = middle } else { high = middle }
    }
    low
}

#[test]
fn slower_replies_are_found_by_how_many_exceed_the_frozen_p95() {
    let method = Method::OneSided { n_star: 5000.0 };
    let found = |times: f64| falls(method, (0.95, 1.0 - exceeding(times)));
    assert!((exceeding(1.0) - 0.05).abs() < 1e-9);
    assert!(falls(method, (0.95, 0.95)).stopped.share <= ceiling(0.05));
    let barely = found(1.05).stopped.share;
    assert!((0.53..=0.73).contains(&barely), "{barely}");
    for (times, wanted) in [(1.1, 2000.0), (1.2, 660.0), (1.5, 220.0), (2.0, 100.0)] {
        median_near(found(times), wanted);
    }
}

#[test]
fn counting_requests_of_sticky_users_takes_equal_canaries_off() {
    for (spread, requests) in [(1.0, 20), (2.0, 50)] {
        let users = Users { success: 0.6, spread, requests, every: 20, up_to: 1_000 };
        let share = |counted| clustered(counted, users, (0.05, 5000.0), (RUNS, 1)).stopped.share;
        let (by_request, by_user) = (share(Counted::Requests), share(Counted::Users));
        assert!(by_request >= 0.10, "{spread}: {by_request}");
        assert!(by_user <= ceiling(0.05), "{spread}: {by_user}");
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
