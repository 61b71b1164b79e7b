use super::*;

fn rewarded(unit: &str, arm: Side, reward: f64) -> Observation {
    Observation { reward: Some(reward), ..seen(unit, arm) }
}

fn seen(unit: &str, arm: Side) -> Observation {
    Observation::served(unit, arm)
}

#[test]
fn fifty_requests_of_one_session_are_one_unit() {
    let mut facts: Vec<_> =
        (0..50).map(|i| rewarded("chatty", Side::Canary, f64::from(i % 2))).collect();
    facts.push(rewarded("brief", Side::Canary, 1.0));
    let summary = Evidence::of(&facts).unwrap().summary(Side::Canary).clone();
    assert_eq!((summary.units, summary.rewarded), (2, 2));
    assert!((summary.reward_sum - 1.5).abs() < 1e-12);
    assert!((summary.reward_sum_of_squares - 1.25).abs() < 1e-12);
    assert_eq!(summary.successes, 1, "the first reward of the chatty session was 0");
}

#[test]
fn a_mark_counts_once_and_a_missing_reward_is_no_failure() {
    let bad = Observation { error: true, unsafe_output: true, ..seen("u1", Side::Baseline) };
    let slow = Observation { latency_exceeded: true, ..seen("u1", Side::Baseline) };
    let evidence = Evidence::of([&seen("u1", Side::Baseline), &bad, &bad, &slow]).unwrap();
    let summary = evidence.summary(Side::Baseline);
    assert_eq!((summary.units, summary.rewarded, summary.errors), (1, 0, 1));
    assert_eq!((summary.latency_exceeded, summary.unsafe_outputs), (1, 1));
    assert_eq!(evidence.summary(Side::Canary), &ArmSummary::default());
}

#[test]
fn pairs_follow_the_order_of_arrival_on_each_side() {
    let evidence = Evidence::of(&[
        rewarded("c1", Side::Canary, 0.0),
        rewarded("c2", Side::Canary, 1.0),
        rewarded("b1", Side::Baseline, 1.0),
        rewarded("b1", Side::Baseline, 0.0),
    ])
    .unwrap();
    let pairs = evidence.pairs();
    assert_eq!((pairs.blocks, pairs.treatment_successes, pairs.control_successes), (1, 0, 1));
}

#[test]
fn sums_do_not_depend_on_the_order_across_units() {
    let mut facts: Vec<_> = (0..60_u32)
        .map(|i| rewarded(&format!("u{}", i % 23), Side::Canary, f64::from(i * 7 % 11) / 10.0))
        .collect();
    let forwards = Evidence::of(&facts).unwrap().summary(Side::Canary).clone();
    facts.reverse();
    let backwards = Evidence::of(&facts).unwrap().summary(Side::Canary).clone();
    assert!((forwards.reward_sum - backwards.reward_sum).abs() < 1e-9);
    let squares = forwards.reward_sum_of_squares - backwards.reward_sum_of_squares;
    assert!(squares.abs() < 1e-9);
}

#[test]
fn outcomes_count_at_the_step_they_arrive_at_and_nowhere_else() {
    let mut evidence = Evidence::of(&[rewarded("c1", Side::Canary, 1.0)]).unwrap();
    assert_eq!(evidence.outcomes_at(0, Side::Canary), 1);
    assert_eq!(evidence.outcomes_at(1, Side::Canary), 0, "step 1 was not entered");
    evidence.enter_step(1);
    evidence.observe(&rewarded("c1", Side::Canary, 1.0)).unwrap();
    evidence.observe(&rewarded("c2", Side::Canary, 1.0)).unwrap();
    assert_eq!(evidence.outcomes_at(1, Side::Canary), 1);
    assert_eq!(evidence.summary(Side::Canary).rewarded, 2);
}

#[test]
fn a_reward_off_the_scale_is_refused_and_changes_nothing() {
    let mut evidence = Evidence::default();
    for reward in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        let refused = evidence.observe(&rewarded("c1", Side::Canary, reward));
        assert!(matches!(refused, Err(RouterError::Reward { .. })));
    }
    assert_eq!(evidence.summary(Side::Canary), &ArmSummary::default());
}

fn waiting(missing: MissingReward) -> Evidence {
    Evidence::under(&Policy { maturation_ms: 100, missing, ..Policy::default() })
}

fn at(unit: &str, arm: Side, at_ms: i64) -> Observation {
    Observation { at_ms: Some(at_ms), ..seen(unit, arm) }
}

#[test]
fn a_reward_counts_when_its_unit_has_matured_and_not_after() {
    let mut evidence = waiting(MissingReward::Exclude);
    for fact in [
        at("prompt", Side::Canary, 0),
        rewarded("prompt", Side::Canary, 0.0),
        rewarded("prompt", Side::Canary, 1.0),
        at("silent", Side::Canary, 10),
        at("other", Side::Baseline, 100),
    ] {
        evidence.observe(&fact).unwrap();
    }
    assert_eq!(evidence.summary(Side::Canary).rewarded, 0, "pending, which is no failure");
    assert_eq!(evidence.silent_units(), 0);
    evidence.observe(&at("other", Side::Baseline, 101)).unwrap();
    evidence.observe(&rewarded("prompt", Side::Canary, 1.0)).unwrap();
    let summary = evidence.summary(Side::Canary).clone();
    assert_eq!((summary.matured, summary.rewarded, summary.missing), (1, 1, 0));
    assert_eq!((summary.reward_sum, summary.successes), (0.5, 0), "the third reward is too late");
    evidence.observe(&at("other", Side::Baseline, 200)).unwrap();
    evidence.observe(&rewarded("silent", Side::Canary, 1.0)).unwrap();
    let summary = evidence.summary(Side::Canary);
    assert_eq!((summary.matured, summary.rewarded, summary.missing), (2, 1, 1));
}

#[test]
fn a_missing_reward_is_a_zero_where_the_policy_says_so() {
    let mut evidence = waiting(MissingReward::WorstCase);
    evidence.observe(&at("silent", Side::Canary, 0)).unwrap();
    evidence.observe(&at("later", Side::Baseline, 500)).unwrap();
    let summary = evidence.summary(Side::Canary);
    assert_eq!((summary.rewarded, summary.missing, summary.reward_sum), (1, 1, 0.0));
}

#[test]
fn a_unit_counts_where_it_was_assigned_first() {
    let facts = [
        rewarded("u1", Side::Canary, 0.0),
        Observation { error: true, ..rewarded("u1", Side::Baseline, 1.0) },
    ];
    let evidence = Evidence::of(&facts).unwrap();
    let summary = evidence.summary(Side::Canary);
    assert_eq!((summary.units, summary.errors, summary.crossed), (1, 1, 1));
    assert_eq!(summary.reward_sum, 0.5);
    assert_eq!(evidence.summary(Side::Baseline), &ArmSummary::default());
}

#[test]
fn costs_of_a_unit_add_up_to_the_cap() {
    let mut evidence = Evidence::under(&Policy { cost_cap: Some(10.0), ..Policy::default() });
    for (unit, cost) in [("dear", 8.0), ("dear", 8.0), ("cheap", 5.0)] {
        evidence.observe(&Observation { cost, ..seen(unit, Side::Canary) }).unwrap();
    }
    let summary = evidence.summary(Side::Canary);
    assert!((summary.cost_sum - 1.5).abs() < 1e-12);
    assert!((summary.cost_sum_of_squares - 1.25).abs() < 1e-12);
    let odd = Observation { cost: f64::NAN, ..seen("dear", Side::Canary) };
    assert!(matches!(evidence.observe(&odd), Err(RouterError::Cost { .. })));
}

#[test]
fn time_is_that_of_replies_and_never_runs_backwards() {
    let mut evidence = Evidence::default();
    for (unit, at_ms) in [("a", 1_000), ("b", 4_000), ("c", 2_000)] {
        evidence.observe(&at(unit, Side::Canary, at_ms)).unwrap();
    }
    assert_eq!((evidence.age_ms(), evidence.step_age_ms()), (3_000, 3_000));
    evidence.enter_step(1);
    evidence.observe(&at("d", Side::Canary, 4_500)).unwrap();
    assert_eq!((evidence.age_ms(), evidence.step_age_ms()), (3_500, 500));
    assert_eq!(evidence.silent_units(), 4);
}
