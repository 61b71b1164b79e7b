use super::*;
use crate::{Observation, Steps};

/// The policy of a small release: one comparison at one half, then promotion.
fn policy() -> Policy {
    Policy { steps: Steps::new(vec![50, 100]).unwrap(), margin: 0.15, ..Policy::default() }
}

fn fact(i: u32, arm: Side, reward: Option<f64>) -> Observation {
    Observation {
        unit: format!("{arm:?}-{i}"),
        arm,
        reward,
        error: false,
        latency_exceeded: false,
        unsafe_output: false,
    }
}

/// `n` units per side; reward 1, but for the first units of every `out_of`, which get 0.
fn failing(n: u32, canary: u32, baseline: u32, out_of: u32) -> Evidence {
    let mut evidence = Evidence::default();
    for i in 0..n {
        for (arm, failures) in [(Side::Canary, canary), (Side::Baseline, baseline)] {
            // The stride spreads failures evenly instead of letting each round start with them.
            let reward = if i * 7 % out_of < failures { 0.0 } else { 1.0 };
            evidence.observe(&fact(i, arm, Some(reward))).unwrap();
        }
    }
    evidence
}

fn verdict(policy: &Policy, evidence: &Evidence) -> Verdict {
    judge(policy, evidence, 0).verdict
}

#[test]
fn a_disaster_is_rolled_back_within_ten_units_per_arm() {
    // Reward 0 against 0.95: nineteen of twenty baseline units succeed.
    let first = (1..=50).find(|&n| {
        verdict(&policy(), &failing(n, 20, 1, 20)) == Verdict::RollBack { guard: Guard::Reward }
    });
    assert!(first.is_some_and(|n| (4..=10).contains(&n)), "{first:?}");
    let judgement = judge(&policy(), &failing(8, 20, 0, 20), 0);
    let reason = &judgement.reasons[0];
    assert_eq!((reason.test, reason.signal), (Test::Pairs, Signal::Harm));
    assert!(reason.text.starts_with(
        "of 8 pairs of units the canary succeeded in 0 and its baseline in 8 (e-value"
    ));
}

#[test]
fn total_failure_is_stopped_after_three_canary_units() {
    let mut evidence = Evidence::default();
    for i in 0..3 {
        assert!(matches!(verdict(&policy(), &evidence), Verdict::Hold { .. }));
        let failed = Observation { error: true, ..fact(i, Side::Canary, None) };
        evidence.observe(&failed).unwrap();
    }
    assert_eq!(verdict(&policy(), &evidence), Verdict::RollBack { guard: Guard::Errors });
    let text = &judge(&policy(), &evidence, 0).reasons[0].text;
    assert!(text.starts_with("errors hit 3 of 3 canary units, above the limit of 2 %"), "{text}");
}

#[test]
fn a_guard_that_does_not_act_is_shown_and_decides_nothing() {
    let mut evidence = Evidence::default();
    for i in 0..3 {
        let failed = Observation { error: true, ..fact(i, Side::Canary, None) };
        evidence.observe(&failed).unwrap();
    }
    let watched = Policy { rollback_on: [Guard::Reward].into(), ..policy() };
    let judgement = judge(&watched, &evidence, 0);
    assert_eq!(judgement.verdict, Verdict::Hold { missing_outcomes: 50 });
    assert!(judgement.reasons.iter().any(|finding| finding.signal == Signal::Harm));
}

#[test]
fn an_equal_canary_is_promoted_after_a_hundred_or_so_outcomes_per_arm() {
    let promoted = |canary, baseline| {
        (1..=200).find_map(|n| match verdict(&policy(), &failing(n, canary, baseline, 20)) {
            Verdict::Promote { superior } => Some((n, superior)),
            _ => None,
        })
    };
    let (n, superior) = promoted(1, 1).unwrap();
    assert!((60..=150).contains(&n) && !superior, "{n}");
    // Much better: as soon as the bounds count, and unmarked units prove the marks are rare.
    assert!(matches!(promoted(1, 19), Some((50..=52, true))));
    assert_eq!(promoted(9, 1), None, "much worse");
}

#[test]
fn a_clear_drop_in_the_mean_is_told_with_its_bound() {
    // All rewards are above one half, so the pair test sees nothing.
    let mut evidence = Evidence::default();
    for i in 0..60 {
        let wobble = f64::from(i % 5) / 50.0;
        evidence.observe(&fact(i, Side::Canary, Some(0.5 + wobble))).unwrap();
        evidence.observe(&fact(i, Side::Baseline, Some(0.9 + wobble))).unwrap();
    }
    let judgement = judge(&policy(), &evidence, 0);
    assert_eq!(judgement.verdict, Verdict::RollBack { guard: Guard::Reward });
    let reason = &judgement.reasons[0];
    assert!(reason.text.starts_with("reward fell by 0.40 (99.38 % sequential upper bound -0."));
    assert!(reason.text.ends_with(" < 0) after 60 units per arm"), "{}", reason.text);
    let (bounds, interval) = (reason.bounds.unwrap(), reason.interval.unwrap());
    assert!(bounds.upper < 0.0 && interval.lower < bounds.upper);
    assert!(reason.e_value.unwrap() > 1.0 / 0.00625);
}

#[test]
fn few_identical_units_promote_nothing() {
    for n in 0..50 {
        let evidence = failing(n, 0, 20, 20);
        let eager = Policy { min_outcomes_per_step: 1, ..policy() };
        assert_eq!(
            verdict(&eager, &evidence),
            Verdict::Hold { missing_outcomes: 50 - u64::from(n) },
            "1 against 0 after {n} units"
        );
    }
}

#[test]
fn a_ramp_needs_outcomes_at_each_step() {
    let ramp = Policy { steps: Steps::new(vec![10, 25, 50, 100]).unwrap(), ..policy() };
    let mut evidence = failing(60, 1, 1, 20);
    assert_eq!(verdict(&ramp, &evidence), Verdict::Advance { to_step: 1 });
    let held = Verdict::Hold { missing_outcomes: 50 };
    assert_eq!(judge(&ramp, &evidence, 1).verdict, held, "the evidence is not at step 1 yet");
    evidence.enter_step(1);
    assert_eq!(judge(&ramp, &evidence, 1).verdict, held);
}

#[test]
fn promotion_needs_every_acting_guard() {
    let mut evidence = failing(150, 0, 0, 20);
    assert_eq!(verdict(&policy(), &evidence), Verdict::Promote { superior: false });
    // One in ten slow on both sides: no harm, but no proof against a rise of 0.1 either.
    for i in 0..15 {
        for arm in [Side::Canary, Side::Baseline] {
            let slow = Observation { latency_exceeded: true, ..fact(i, arm, None) };
            evidence.observe(&slow).unwrap();
        }
    }
    let strict = Policy { latency_slo: 0.2, flag_margin: 0.05, ..policy() };
    let judgement = judge(&strict, &evidence, 0);
    assert_eq!(judgement.verdict, Verdict::Hold { missing_outcomes: 0 });
    let latency = judgement
        .reasons
        .iter()
        .find(|finding| finding.guard == Some(Guard::Latency) && finding.test == Test::Difference);
    let text = &latency.unwrap().text;
    assert!(text.contains("needs < 0.05") && text.contains("more per arm would do"), "{text}");
    let unwatched = Policy { rollback_on: [Guard::Reward].into(), ..strict };
    assert_eq!(verdict(&unwatched, &evidence), Verdict::Promote { superior: false });
}

#[test]
fn an_uneven_split_voids_the_comparison_but_not_a_broken_limit() {
    let mut evidence = failing(300, 0, 0, 20);
    for i in 300..420 {
        evidence.observe(&fact(i, Side::Canary, Some(1.0))).unwrap();
    }
    let judgement = judge(&policy(), &evidence, 0);
    assert_eq!(judgement.verdict, Verdict::Invalid);
    assert_eq!(judgement.reasons[0].test, Test::UnitRatio);
    for i in 0..60 {
        let bad = Observation { unsafe_output: true, ..fact(i, Side::Canary, None) };
        evidence.observe(&bad).unwrap();
    }
    assert_eq!(verdict(&policy(), &evidence), Verdict::RollBack { guard: Guard::Safety });
}

#[test]
fn rewards_missing_on_one_side_void_the_comparison() {
    let mut evidence = Evidence::default();
    for i in 0..400 {
        evidence.observe(&fact(i, Side::Baseline, Some(1.0))).unwrap();
        evidence.observe(&fact(i, Side::Canary, (i % 2 == 0).then_some(1.0))).unwrap();
    }
    let judgement = judge(&policy(), &evidence, 0);
    assert_eq!(judgement.verdict, Verdict::Invalid);
    assert_eq!(judgement.reasons[0].test, Test::RewardRatio);
}

#[test]
fn without_data_or_without_proof_nothing_is_promoted() {
    let nothing = judge(&policy(), &Evidence::default(), 0);
    assert_eq!(nothing.verdict, Verdict::Hold { missing_outcomes: 50 });
    assert!(nothing.reasons.iter().all(|finding| finding.estimate.is_none()));
    // A canary exactly at the margin can be neither promoted nor, here, found harmful.
    let short = Policy { max_units: 80, ..policy() };
    let judgement = judge(&short, &failing(80, 6, 3, 20), 0);
    assert_eq!(judgement.verdict, Verdict::Inconclusive);
    assert!(judgement.to_string().starts_with("pause: inconclusive: reward fell by 0.15 (95 %"));
}
