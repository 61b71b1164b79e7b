//! Whole releases through the real rule: what it does in worlds whose truth is known.

#![allow(clippy::unwrap_used, reason = "a simulation that cannot run is a failure of the test")]

use understudy_manifest::Guard;
use understudy_router::{Control, Policy, RouterError, Steps, Verdict};
use understudy_simulation::{
    Behaviour, Characteristics, Expected, Scenario, Settings, SimulationError, Traffic, World,
    plan, replicate, simulate,
};

/// A short ramp, and no more units than a test has time for.
fn policy() -> Policy {
    Policy {
        steps: Steps::new(vec![10, 50, 100]).unwrap(),
        margin: 0.1.into(),
        max_units: 1_500,
        max_silent_units: 1_000,
        ..Policy::default()
    }
}

fn settings(replications: u32) -> Settings {
    Settings { replications, seed: 5, ..Settings::default() }
}

fn played(policy: &Policy, scenario: Scenario, runs: u32) -> Characteristics {
    let world = scenario.world(policy, Behaviour::default());
    replicate(policy, world, &settings(runs)).unwrap()
}

/// `α + 3√(α(1−α)/R)`.
fn ceiling(alpha: f64, runs: u32) -> f64 {
    alpha + 3.0 * (alpha * (1.0 - alpha) / f64::from(runs)).sqrt()
}

#[test]
fn identical_arms_are_rarely_rolled_back_whatever_the_traffic_does() {
    // A margin that nobody proves keeps every run going to its last unit: the most looks there are.
    let endless = Policy { margin: 1e-6.into(), max_units: 800, ..policy() };
    let runs = 60;
    for scenario in
        [Scenario::Identical, Scenario::Drifting, Scenario::Clustered, Scenario::RareEvents]
    {
        let found = played(&endless, scenario, runs);
        let share = found.rolled_back.share;
        assert!(share <= ceiling(0.05, runs), "{scenario}: {share}");
        assert!(found.invalid.share <= ceiling(0.03, runs), "{scenario}: {:?}", found.verdicts);
    }
}

#[test]
fn identical_arms_are_rarely_rolled_back_at_any_rate_of_success() {
    let runs = 60;
    let endless = Policy { margin: 1e-6.into(), max_units: 600, ..policy() };
    for success in [0.05, 0.6, 0.99, 0.998] {
        for scenario in [Scenario::Identical, Scenario::Drifting, Scenario::Clustered] {
            let stable = Behaviour { success, ..Behaviour::default() };
            let world = scenario.world(&endless, stable);
            let found = replicate(&endless, world, &settings(runs)).unwrap();
            let share = found.rolled_back.share;
            assert!(share <= ceiling(0.05, runs), "{scenario} at {success}: {share}");
        }
    }
}

/// The whole rule with the reward as its only guard, at one half from the start.
fn reward_alone(margin: f64, change: f64, runs: u32) -> Characteristics {
    let policy = Policy {
        steps: Steps::new(vec![50, 100]).unwrap(),
        rollback_on: [Guard::Reward].into(),
        margin: margin.into(),
        ..Policy::default()
    };
    let stable =
        Behaviour { errors: 0.0, slowness: 0.1, unsafe_outputs: 0.0, ..Behaviour::default() };
    let canary = Behaviour { success: stable.success + change, ..stable };
    replicate(&policy, World { canary, ..World::alike(stable) }, &settings(runs)).unwrap()
}

#[test]
fn the_full_rule_promotes_and_rolls_back_as_often_and_as_soon_as_stated() {
    let runs = 120;
    for (margin, change, stated, median) in
        [(0.05, 0.0, 0.981, 1300.0), (0.05, 0.02, 1.0, 740.0), (0.03, 0.0, 0.971, 3020.0)]
    {
        let found = reward_alone(margin, change, runs);
        let missed = 1.0 - found.promoted.share;
        assert!(missed <= ceiling(1.0 - stated, runs) + 0.01, "{margin} {change:+}: {found:?}");
        let after = found.to_promotion.unwrap().units_per_arm.p50;
        assert!((after - median).abs() <= 0.15 * median, "{margin} {change:+}: {after}");
    }
    for margin in [0.05, 0.03] {
        let found = reward_alone(margin, -margin, runs);
        assert!(found.promoted.share <= ceiling(0.05, runs), "at the margin {margin}: {found:?}");
    }
    let found = reward_alone(0.03, -0.08, runs);
    assert_eq!(found.rolled_back.count, u64::from(runs));
    // Sooner than by the bounds alone, because the exact test by pairs looks as well.
    let after = found.to_rollback.unwrap().units_per_arm.p50;
    assert!((400.0..=1.15 * 640.0).contains(&after), "{after}");
}

#[test]
fn a_canary_at_the_margin_is_rarely_promoted() {
    // The reward may not end a run by rolling back, so that each keeps trying.
    let patient = Policy { rollback_on: [Guard::Errors].into(), ..policy() };
    let runs = 60;
    let found = played(&patient, Scenario::AtMargin, runs);
    assert!(found.promoted.share <= ceiling(0.05, runs), "{}", found.promoted.share);
}

#[test]
fn each_scenario_ends_as_it_should() {
    for scenario in Scenario::ALL {
        let mut policy = policy();
        if scenario == Scenario::Costlier {
            policy.cost_cap = Some(1_000.0);
            policy.rollback_on.insert(Guard::Cost);
        }
        if scenario.expected() == Expected::NoPromotion {
            // A wide margin is proven before a small fault is.
            policy.margin = 0.05.into();
        }
        let found = played(&policy, scenario, 20);
        match scenario.expected() {
            Expected::Promotion => {
                assert!(found.promoted.count >= 15, "{scenario}: {:?}", found.verdicts);
            }
            Expected::Rollback(guard) => {
                let blamed = found.guards.get(&guard).copied().unwrap_or(0);
                assert!(blamed >= 17, "{scenario}: {:?} {:?}", found.verdicts, found.guards);
                assert_eq!(found.promoted.count, 0, "{scenario}");
            }
            Expected::NoPromotion => {
                assert!(found.promoted.count <= 3, "{scenario}: {:?}", found.verdicts);
            }
        }
    }
}

#[test]
fn broken_comparisons_are_called_invalid_and_a_silent_teacher_stalls() {
    for scenario in [Scenario::LostUnits, Scenario::MissingRewards] {
        let longer = Policy { max_units: 20_000, margin: 1e-6.into(), ..policy() };
        let found = played(&longer, scenario, 10);
        assert_eq!(found.invalid.count, 10, "{scenario}: {:?}", found.verdicts);
    }
    // Where a unit has a time to get its reward, the gap itself is seen, and sooner.
    let window = Policy { maturation_ms: 60_000, margin: 1e-6.into(), ..policy() };
    let found = played(&window, Scenario::MissingRewards, 10);
    assert_eq!(found.invalid.count, 10, "{:?}", found.verdicts);
    assert!(found.to_invalid.unwrap().units_per_arm.p90 <= 140.0, "{:?}", found.to_invalid);
    let found = played(&Policy { max_units: 20_000, ..policy() }, Scenario::SilentTeacher, 10);
    assert_eq!(found.verdicts.get("stalled"), Some(&10), "{:?}", found.verdicts);
}

#[test]
fn news_that_travels_at_different_speeds_misleads_only_without_maturation() {
    let slow =
        Behaviour { good_news_ms: 7_200_000, bad_news_ms: 7_200_000, ..Behaviour::default() };
    let eager = Behaviour { bad_news_ms: 60_000, ..slow };
    let world = World { canary: eager, ..World::alike(slow) };
    let now = Policy { min_outcomes_per_step: 100, max_units: 1_000, ..policy() };
    let misled = replicate(&now, world, &settings(12)).unwrap();
    assert!(misled.promoted.count <= 2, "{:?}", misled.verdicts);
    let patient = Policy { maturation_ms: 7_200_000, max_units: 5_000, ..now };
    let fair = replicate(&patient, world, &settings(12)).unwrap();
    assert!(fair.promoted.count >= 10, "{:?} {:?}", fair.verdicts, fair.guards);
}

#[test]
fn equal_seeds_give_equal_releases() {
    let (policy, settings) = (policy(), settings(3));
    let world = Scenario::TenPointsWorse.world(&policy, Behaviour::default());
    let once = |seed| simulate(&policy, world, &settings, seed).unwrap();
    assert_eq!(once(1), once(1));
    assert_ne!((once(1), once(2)), (once(2), once(1)), "other seeds, other releases");
    let told =
        |settings| serde_json::to_string(&replicate(&policy, world, &settings).unwrap()).unwrap();
    assert_eq!(told(settings), told(settings));
}

#[test]
fn a_policy_that_pools_its_control_is_refused() {
    let pooled = Policy { control: Control::Pooled, ..policy() };
    let refused = replicate(&pooled, World::default(), &settings(1));
    assert_eq!(refused, Err(SimulationError::Policy(RouterError::PooledControl)));
    for (spoil, named) in [
        (Behaviour { success: 1.5, ..Behaviour::default() }, "success"),
        (Behaviour { cost: f64::NAN, ..Behaviour::default() }, "cost"),
    ] {
        let refused = replicate(&policy(), World::alike(spoil), &settings(1));
        let Err(SimulationError::Setting { field, .. }) = refused else { panic!("{refused:?}") };
        assert_eq!(field, named);
    }
    let never = Settings { replications: 0, ..settings(1) };
    assert!(matches!(
        replicate(&policy(), World::default(), &never),
        Err(SimulationError::Setting { field: "replications", .. })
    ));
}

#[test]
fn a_total_failure_costs_a_handful_of_units() {
    let dead = Behaviour { errors: 1.0, ..Behaviour::default() };
    let world = World { canary: dead, ..World::default() };
    let often = Settings { units_per_look: 1, ..settings(20) };
    let found = replicate(&policy(), world, &often).unwrap();
    assert_eq!(found.rolled_back.count, 20);
    assert!(found.to_rollback.unwrap().units_per_arm.p90 <= 10.0);
    let ending = simulate(&policy(), world, &often, 9).unwrap();
    assert_eq!(ending.verdict, Verdict::RollBack { guard: Guard::Errors });
}

#[test]
fn a_plan_says_how_long_each_step_and_each_verdict_takes() {
    let traffic =
        Traffic { units_per_hour: 200.0, stable: Behaviour::default(), patience_hours: 1.0 };
    let plan = plan(&policy(), &traffic, &settings(10)).unwrap();
    let hours: Vec<f64> = plan.steps.iter().map(|step| step.hours).collect();
    assert_eq!(hours, [2.5, 0.5], "50 outcomes at 20 and at 100 units per hour");
    assert_eq!(plan.start_percent, Some(25), "50 outcomes within an hour");
    let promotion = plan.promotion.unwrap().hours.p50;
    assert!(promotion > 3.0, "{promotion}");
    assert!(plan.detections.iter().is_sorted_by(|less, more| less.fall < more.fall));
    let worst = plan.detections.last().unwrap();
    assert_eq!(worst.rolled_back.count, 10);
    assert!(worst.hours.unwrap().p50 < promotion);
}

#[test]
fn scenarios_are_known_by_name() {
    for scenario in Scenario::ALL {
        assert_eq!(scenario.as_str().parse(), Ok(scenario));
        assert!(!scenario.about().is_empty());
    }
    let unknown = "sunny".parse::<Scenario>().unwrap_err().to_string();
    assert!(unknown.contains("identical, drifting"), "{unknown}");
}
