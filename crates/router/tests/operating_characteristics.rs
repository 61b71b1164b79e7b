//! How often whole releases end well or badly, simulated through the public interface: units arrive,
//! the route assigns them, outcomes are observed, and a verdict is asked for after every twentieth.
//!
//! Chance comes from the same salted hash that assigns units, so every run repeats exactly.

#![allow(clippy::unwrap_used, reason = "a simulation that cannot go on should stop at once")]

use understudy_manifest::Guard;
use understudy_router::{
    Canary, Evidence, Observation, Policy, Route, Salt, Side, Steps, Tap, Target, Verdict, judge,
};

/// True success rates while a release goes on.
#[derive(Clone, Copy)]
struct Scenario {
    canary: f64,
    baseline: f64,
    /// How much both rates fall, evenly, over the first thousand units of traffic.
    drift: f64,
    requests_per_unit: u32,
}

struct Ending {
    verdict: Verdict,
    units_per_side: u64,
}

fn policy() -> Policy {
    Policy {
        steps: Steps::new(vec![10, 25, 50, 100]).unwrap(),
        min_outcomes_per_step: 20,
        margin: 0.15.into(),
        max_units: 300,
        ..Policy::default()
    }
}

/// Reads a salt's placement of a label as a number drawn evenly from 0 to 1.
fn draw(salt: Salt, label: &str) -> f64 {
    salt.place(label) as f64 / 2_f64.powi(64)
}

fn salt(run: u32, purpose: u8) -> Salt {
    let mut bytes = [purpose; 16];
    bytes[..4].copy_from_slice(&run.to_be_bytes());
    Salt::new(bytes)
}

fn simulate(policy: &Policy, scenario: Scenario, run: u32) -> Ending {
    let mut route = Route {
        tap: Some(Tap { share: 0.05.try_into().unwrap(), salt: salt(run, 1) }),
        canary: Some(Canary {
            target: Target::Base,
            share: policy.steps.share(0),
            salt: salt(run, 2),
        }),
        ..Route::to(Target::Teacher)
    };
    let (mut evidence, mut step) = (Evidence::default(), 0);
    for arrival in 0_u32.. {
        let unit = format!("session-{arrival}");
        let Some(arm) = route.assign(&unit).side() else { continue };
        let rate = if arm == Side::Canary { scenario.canary } else { scenario.baseline };
        let rate = rate - scenario.drift * f64::from(arrival.min(1000)) / 1000.0;
        // A unit's requests are alike: one user is pleased by everything, another by nothing.
        let pleased = draw(salt(run, 3), &unit) < rate;
        for request in 0..scenario.requests_per_unit {
            let slip = draw(salt(run, 4), &format!("{unit}/{request}")) < 0.1;
            let reward = Some(f64::from(u8::from(pleased && !slip)));
            let observation = Observation { reward, ..Observation::served(&unit, arm) };
            evidence.observe(&observation).unwrap();
        }
        let units = [Side::Canary, Side::Baseline].map(|side| evidence.summary(side).units);
        if units.iter().sum::<u64>() % 20 != 0 {
            continue;
        }
        match judge(policy, &evidence, step).verdict {
            Verdict::Hold { .. } => {}
            Verdict::Advance { to_step } => {
                step = to_step;
                evidence.enter_step(step);
                route.canary.as_mut().unwrap().share = policy.steps.share(step);
                route.validate().unwrap();
            }
            verdict => return Ending { verdict, units_per_side: units[0].min(units[1]) },
        }
    }
    unreachable!("a release ends when its units are spent")
}

/// The share of runs that end in a wanted verdict, and the median units per side of those.
fn share_of(
    runs: u32,
    policy: &Policy,
    scenario: Scenario,
    wanted: fn(Verdict) -> bool,
) -> (f64, u64) {
    let mut units: Vec<_> = (0..runs)
        .map(|run| simulate(policy, scenario, run))
        .filter(|ending| wanted(ending.verdict))
        .map(|ending| ending.units_per_side)
        .collect();
    units.sort_unstable();
    let median = units.get(units.len() / 2).copied().unwrap_or(0);
    (units.len() as f64 / f64::from(runs), median)
}

/// `α + 3σ` of a share measured over some runs.
fn ceiling(alpha: f64, runs: u32) -> f64 {
    alpha + 3.0 * (alpha * (1.0 - alpha) / f64::from(runs)).sqrt()
}

fn rolled_back(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::RollBack { .. })
}

fn promoted(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Promote { .. })
}

const STEADY: Scenario = Scenario { canary: 0.9, baseline: 0.9, drift: 0.0, requests_per_unit: 1 };

#[test]
fn equal_arms_are_rarely_rolled_back() {
    // A margin nobody can prove keeps every run going to its end: the most looks, the most chances.
    // One guard alone gets the whole error rate, so nothing but the test itself keeps it.
    let endless = Policy { margin: 1e-6.into(), rollback_on: [Guard::Reward].into(), ..policy() };
    let runs = 200;
    for scenario in [
        Scenario { canary: 0.6, baseline: 0.6, ..STEADY },
        Scenario { drift: 0.5, ..STEADY },
        Scenario { canary: 0.6, baseline: 0.6, requests_per_unit: 4, ..STEADY },
    ] {
        let (share, _) = share_of(runs, &endless, scenario, rolled_back);
        assert!(share <= ceiling(endless.alpha_rollback, runs), "{share}");
    }
}

#[test]
fn a_canary_at_the_margin_is_rarely_promoted() {
    // The reward may not end a run by rolling back, so each keeps trying to be promoted.
    let (runs, policy) = (200, Policy { rollback_on: [Guard::Errors].into(), ..policy() });
    // Slips make 0.9 of every rate, so this is a difference of exactly the margin.
    let at_margin = Scenario { canary: 0.9 - 0.15 / 0.9, ..STEADY };
    let (share, _) = share_of(runs, &policy, at_margin, promoted);
    assert!(share <= ceiling(policy.alpha_promote, runs), "{share}");
}

#[test]
fn equal_arms_are_promoted_in_time_for_a_demonstration() {
    let good = Scenario { canary: 1.0, baseline: 1.0, ..STEADY };
    let (share, median) = share_of(100, &policy(), good, promoted);
    assert!(share >= 0.95, "{share}");
    assert!((60..=150).contains(&median), "{median}");
}

#[test]
fn a_drop_is_found_the_sooner_the_larger_it_is() {
    let found = |canary| share_of(60, &policy(), Scenario { canary, ..STEADY }, rolled_back);
    let (large, medium) = (found(0.1), found(0.5));
    assert!(large.0 == 1.0 && large.1 <= 20, "{large:?}");
    assert!(medium.0 >= 0.95 && medium.1 <= 100, "{medium:?}");
    assert!(large.1 < medium.1);
}
