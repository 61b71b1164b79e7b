use understudy_manifest::SmallHarm;

use super::*;
use crate::{Observation, Steps};

/// The policy of a small release: one comparison at one half, then promotion.
fn policy() -> Policy {
    Policy { steps: Steps::new(vec![50, 100]).unwrap(), margin: 0.15.into(), ..Policy::default() }
}

fn fact(i: u32, arm: Side, reward: Option<f64>) -> Observation {
    Observation { reward, ..Observation::served(format!("{arm:?}-{i}"), arm) }
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
    let judged = judge(policy, evidence, 0).verdict;
    assert_eq!(super::verdict(policy, evidence, 0), judged, "with and without sentences");
    judged
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
    let begins = "errors hit 3 of 3 canary units at their first reply, above the limit of 2 %";
    assert!(text.starts_with(begins), "{text}");
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
    assert_eq!(judgement.verdict, Verdict::Hold { missing_outcomes: 50, missing_ms: 0 });
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
    assert!(reason.text.starts_with("reward fell by 0.40 (99.17 % sequential upper bound -0."));
    assert!(reason.text.ends_with(" < 0) after 60 units per arm"), "{}", reason.text);
    let (bounds, interval) = (reason.bounds.unwrap(), reason.interval.unwrap());
    assert!(bounds.upper < 0.0 && interval.lower < bounds.upper);
    assert!(reason.e_value.unwrap() > 1.0 / 0.0084);
}

#[test]
fn few_identical_units_promote_nothing() {
    for n in 0..50 {
        let evidence = failing(n, 0, 20, 20);
        let eager = Policy { min_outcomes_per_step: 1, ..policy() };
        assert_eq!(
            verdict(&eager, &evidence),
            Verdict::Hold { missing_outcomes: 50 - u64::from(n), missing_ms: 0 },
            "1 against 0 after {n} units"
        );
    }
}

#[test]
fn a_ramp_needs_outcomes_at_each_step() {
    let ramp = Policy { steps: Steps::new(vec![10, 25, 50, 100]).unwrap(), ..policy() };
    let mut evidence = failing(60, 1, 1, 20);
    assert_eq!(verdict(&ramp, &evidence), Verdict::Advance { to_step: 1 });
    let held = Verdict::Hold { missing_outcomes: 50, missing_ms: 0 };
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
    assert_eq!(judgement.verdict, Verdict::Hold { missing_outcomes: 0, missing_ms: 0 });
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
    assert_eq!(nothing.verdict, Verdict::Hold { missing_outcomes: 50, missing_ms: 0 });
    assert!(nothing.reasons.iter().all(|finding| finding.estimate.is_none()));
    // A canary exactly at the margin can be neither promoted nor, here, found harmful.
    let short = Policy { max_units: 80, ..policy() };
    let judgement = judge(&short, &failing(80, 6, 3, 20), 0);
    assert_eq!(judgement.verdict, Verdict::Inconclusive);
    assert!(judgement.to_string().starts_with("pause: inconclusive: reward fell by 0.15 (95 %"));
}

#[test]
fn proven_harm_within_the_margin_waits_for_a_person_where_the_policy_says_so() {
    // Four points worse, forever; the margin is fifteen.
    let evidence = failing(12_000, 7, 3, 100);
    assert_eq!(verdict(&policy(), &evidence), Verdict::RollBack { guard: Guard::Reward });
    let patient = Policy { on_small_harm: SmallHarm::Hold, ..policy() };
    let judgement = judge(&patient, &evidence, 0);
    assert_eq!(judgement.verdict, Verdict::WorseWithinMargin { guard: Guard::Reward });
    assert_eq!(judgement.reasons[0].signal, Signal::SmallHarm);
    assert!(judgement.to_string().starts_with("pause: reward is worse, though by less"));
    // Far beyond the margin it is rolled back all the same.
    let far = failing(400, 60, 3, 100);
    assert_eq!(verdict(&patient, &far), Verdict::RollBack { guard: Guard::Reward });
}

#[test]
fn rewards_that_stop_coming_pause_the_release() {
    let quiet = Policy { max_silent_units: 200, ..policy() };
    let mut evidence = failing(40, 1, 1, 20);
    for i in 40..140 {
        assert!(!matches!(verdict(&quiet, &evidence), Verdict::Stalled { .. }));
        evidence.observe(&fact(i, Side::Canary, None)).unwrap();
        evidence.observe(&fact(i, Side::Baseline, None)).unwrap();
    }
    let judgement = judge(&quiet, &evidence, 0);
    assert_eq!(judgement.verdict, Verdict::Stalled { silent_units: 200 });
    evidence.observe(&fact(139, Side::Canary, Some(1.0))).unwrap();
    assert!(matches!(verdict(&quiet, &evidence), Verdict::Hold { .. }));
}

#[test]
fn more_missing_rewards_on_one_side_void_the_comparison() {
    let window = Policy { maturation_ms: 10, ..policy() };
    let mut evidence = Evidence::under(&window);
    for i in 0..600 {
        for (arm, every) in [(Side::Canary, 4), (Side::Baseline, 10)] {
            let seen = Observation { at_ms: Some(i64::from(i)), ..fact(i, arm, None) };
            evidence.observe(&seen).unwrap();
            if i % every != 0 {
                evidence.observe(&fact(i, arm, Some(1.0))).unwrap();
            }
        }
    }
    let judgement = judge(&window, &evidence, 0);
    assert_eq!(judgement.verdict, Verdict::Invalid);
    let reason = &judgement.reasons[0];
    assert_eq!(reason.test, Test::Missing);
    assert!(
        reason.text.contains("baseline units got no reward in time (e-value"),
        "{}",
        reason.text
    );
}

#[test]
fn units_on_both_sides_void_the_comparison() {
    let mut evidence = failing(100, 1, 1, 20);
    for i in 0..6 {
        let unit = format!("{:?}-{i}", Side::Canary);
        evidence.observe(&Observation::served(unit, Side::Baseline)).unwrap();
    }
    let judgement = judge(&policy(), &evidence, 0);
    assert_eq!(judgement.verdict, Verdict::Invalid);
    assert!(judgement.reasons[0].text.starts_with("6 of 200 units were seen on both sides"));
}

#[test]
fn a_step_lasts_and_a_release_ends() {
    let timed = Policy { min_step_ms: 5_000, max_age_ms: Some(60_000), ..policy() };
    let mut evidence = failing(150, 0, 0, 20);
    let at = |at_ms: i64, evidence: &mut Evidence| {
        let seen = Observation { at_ms: Some(at_ms), ..fact(0, Side::Canary, None) };
        evidence.observe(&seen).unwrap();
    };
    at(1_000, &mut evidence);
    let held = verdict(&timed, &evidence);
    assert_eq!(held, Verdict::Hold { missing_outcomes: 0, missing_ms: 5_000 });
    assert_eq!(held.to_string(), "hold until the step has lasted 5 s longer");
    at(6_000, &mut evidence);
    assert_eq!(verdict(&timed, &evidence), Verdict::Promote { superior: false });
    let strict = Policy { margin: 1e-6.into(), ..timed };
    assert!(matches!(verdict(&strict, &evidence), Verdict::Hold { .. }));
    at(61_000, &mut evidence);
    assert_eq!(verdict(&strict, &evidence), Verdict::Inconclusive);
}

#[test]
fn a_costlier_canary_is_found_and_a_relative_margin_follows_the_baseline() {
    let guards: std::collections::BTreeSet<_> = [Guard::Reward, Guard::Cost].into();
    let priced = Policy { cost_cap: Some(100.0), rollback_on: guards, ..policy() };
    let priced = Policy { cost_margin: 0.2, ..priced };
    let judged = |canary: f64| {
        let mut evidence = Evidence::under(&priced);
        for i in 0..800 {
            let wobble = f64::from(i * 7 % 20);
            for (arm, mean) in [(Side::Canary, canary), (Side::Baseline, 30.0)] {
                let seen = Observation { cost: mean + wobble, ..fact(i, arm, Some(1.0)) };
                evidence.observe(&seen).unwrap();
            }
        }
        judge(&priced, &evidence, 0)
    };
    assert_eq!(judged(30.0).verdict, Verdict::Promote { superior: false });
    let costly = judged(45.0);
    assert_eq!(costly.verdict, Verdict::RollBack { guard: Guard::Cost });
    assert!(costly.reasons[0].text.starts_with("the mean cost, in parts of its cap, rose by 0.15"));
}

#[test]
fn a_canary_over_a_limit_is_not_promoted_even_if_by_chance() {
    for (error, unsafe_output, guard) in
        [(true, false, Guard::Errors), (false, true, Guard::Safety)]
    {
        let with = |bad: u32| {
            let mut evidence = Evidence::default();
            for i in 0..150 {
                let seen = fact(i, Side::Canary, Some(1.0));
                let (error, unsafe_output) = (error && i < bad, unsafe_output && i < bad);
                evidence.observe(&Observation { error, unsafe_output, ..seen }).unwrap();
                evidence.observe(&fact(i, Side::Baseline, Some(1.0))).unwrap();
            }
            evidence
        };
        assert_eq!(verdict(&policy(), &with(0)), Verdict::Promote { superior: false });
        let evidence = with(4);
        // 4 of 150 is over either limit, proven over neither, and within the margin.
        let held = Verdict::Hold { missing_outcomes: 0, missing_ms: 0 };
        assert_eq!(verdict(&policy(), &evidence), held, "{guard}");
        let watched = Policy { rollback_on: [Guard::Reward].into(), ..policy() };
        assert_eq!(verdict(&watched, &evidence), Verdict::Promote { superior: false });
    }
}

#[test]
fn a_doubtful_split_is_not_promoted_though_it_is_no_alarm_yet() {
    let mut evidence = failing(150, 0, 0, 20);
    let promoted = Verdict::Promote { superior: false };
    let verdicts: Vec<Verdict> = (150..260)
        .map(|i| {
            evidence.observe(&fact(i, Side::Canary, Some(1.0))).unwrap();
            verdict(&policy(), &evidence)
        })
        .collect();
    let held = Verdict::Hold { missing_outcomes: 0, missing_ms: 0 };
    let at = |wanted| verdicts.iter().position(|verdict| *verdict == wanted).unwrap();
    assert!(at(promoted) < at(held) && at(held) < at(Verdict::Invalid), "{verdicts:?}");
}

/// Units of both sides with the same rewards, of which so many in a hundred of each do something.
fn behaving(guard: Guard, canary: u32, baseline: u32, units: u32) -> Evidence {
    let mut evidence = Evidence::default();
    for i in 0..units {
        for (arm, of_hundred) in [(Side::Canary, canary), (Side::Baseline, baseline)] {
            let behaviour = crate::Behaviour::default().with(guard, i % 100 < of_hundred);
            let seen = Observation { behaviour, ..fact(i, arm, Some(f64::from(i % 2))) };
            evidence.observe(&seen).unwrap();
        }
    }
    evidence
}

#[test]
fn a_canary_that_behaves_worse_goes_back_though_its_rewards_are_the_same() {
    for guard in Guard::ALL.into_iter().filter(|guard| guard.is_behaviour()) {
        let watching = Policy::default();
        let acting = Policy { rollback_on: [Guard::Reward, guard].into(), ..Policy::default() };
        let worse = behaving(guard, 40, 2, 600);
        assert_eq!(verdict(&acting, &worse), Verdict::RollBack { guard }, "{guard}");
        assert_ne!(verdict(&watching, &worse), Verdict::RollBack { guard }, "it only watches");
        let findings = judge(&watching, &worse, 3).reasons;
        assert!(findings.iter().any(|finding| finding.guard == Some(guard)), "{guard} is told");
        let same = behaving(guard, 2, 2, 600);
        assert!(!matches!(verdict(&acting, &same), Verdict::RollBack { .. }), "{guard}");
    }
}

#[test]
fn behaviour_is_proven_equal_before_a_promotion_rests_on_it() {
    let acting = Policy { rollback_on: [Guard::Tools].into(), ..policy() };
    let good = |units| behaving(Guard::Tools, 2, 2, units);
    assert!(matches!(verdict(&acting, &good(3_000)), Verdict::Promote { .. }));
    // As bad as its baseline, which sixty units of each do not show.
    let bad = behaving(Guard::Tools, 20, 20, 60);
    assert!(!matches!(verdict(&acting, &bad), Verdict::Promote { .. }));
    let told = judge(&acting, &behaving(Guard::Tools, 40, 2, 600), 0).to_string();
    assert!(told.contains("invalid calls or formats"), "{told}");
}

#[test]
fn a_unit_is_marked_once_however_often_it_does_something() {
    let mut evidence = Evidence::default();
    let behaviour = crate::Behaviour::default()
        .with(Guard::Refusals, true)
        .with(Guard::Length, true)
        .with(Guard::Reward, true);
    for _ in 0..3 {
        let seen = Observation { behaviour, ..fact(0, Side::Canary, None) };
        evidence.observe(&seen).unwrap();
    }
    let marked = &evidence.summary(Side::Canary).behaviour;
    assert_eq!(*marked, [(Guard::Refusals, 1), (Guard::Length, 1)].into());
    let text = serde_json::to_string(&behaviour).unwrap();
    assert_eq!(text, r#"["refusals","length"]"#);
    assert_eq!(serde_json::from_str::<crate::Behaviour>(&text).unwrap(), behaviour);
}

#[test]
fn rewards_in_between_leave_no_step_before_any_test_has_seen_them() {
    // Both succeed, as pairs have it, and one is much worse.
    let rewarded = |n: u32, worse: f64| {
        let mut evidence = Evidence::default();
        for i in 0..n {
            let wobble = f64::from(i % 3) / 50.0;
            evidence.observe(&fact(i, Side::Canary, Some(worse + wobble))).unwrap();
            evidence.observe(&fact(i, Side::Baseline, Some(0.9 + wobble))).unwrap();
        }
        evidence
    };
    let steps = Steps::new(vec![10, 50, 100]).unwrap();
    let ramp = Policy { steps, min_outcomes_per_step: 10, ..policy() };
    for n in [10, 20, 49] {
        let missing_outcomes = u64::from(50 - n);
        let held = Verdict::Hold { missing_outcomes, missing_ms: 0 };
        assert_eq!(verdict(&ramp, &rewarded(n, 0.6)), held, "after {n}");
    }
    assert_eq!(verdict(&ramp, &rewarded(50, 0.6)), Verdict::RollBack { guard: Guard::Reward });
    assert_eq!(verdict(&ramp, &rewarded(50, 0.9)), Verdict::Advance { to_step: 1 });
    // Of rewards that are 0 or 1 the exact test has seen each, and the step's own count suffices.
    assert_eq!(verdict(&ramp, &failing(10, 0, 0, 20)), Verdict::Advance { to_step: 1 });
}

/// Units of both sides with so many replies each, of which every `nth` of the whole is slow and fails.
fn talkative(replies: u32, units: u32, nth: u32) -> Evidence {
    let mut evidence = Evidence::default();
    for i in 0..units {
        for (arm, shift) in [(Side::Canary, 0), (Side::Baseline, nth / 2)] {
            for reply in 0..replies {
                let bad = (i * replies + reply + shift).is_multiple_of(nth);
                let seen = fact(i, arm, Some(1.0));
                let seen = Observation { error: bad, latency_exceeded: bad, ..seen };
                evidence.observe(&seen).unwrap();
            }
        }
    }
    evidence
}

#[test]
fn long_units_are_not_held_to_the_limits_of_single_replies() {
    // One reply in 61 is bad on both sides, so one unit in three.
    let evidence = talkative(20, 600, 61);
    let canary = evidence.summary(Side::Canary);
    assert!(canary.errors * 4 > canary.units, "{canary:?}");
    assert_eq!(verdict(&policy(), &evidence), Verdict::Promote { superior: false });
    let limits = judge(&policy(), &evidence, 0).reasons;
    let limits = limits.iter().filter(|finding| finding.test == Test::Limit);
    assert!(limits.clone().all(|finding| finding.signal == Signal::Quiet));
    assert!(limits.clone().all(|finding| finding.estimate.unwrap() < 0.03));
    // First replies that are bad are found as soon as ever, whatever follows them.
    let mut broken = talkative(20, 5, 61);
    for i in 5..8 {
        for reply in 0..20 {
            let seen = Observation { error: reply == 0, ..fact(i, Side::Canary, None) };
            broken.observe(&seen).unwrap();
        }
    }
    assert_eq!(verdict(&policy(), &broken), Verdict::RollBack { guard: Guard::Errors });
}

#[test]
fn a_limit_that_the_baseline_is_over_as_well_sends_nobody_back() {
    // An outage of everything, and a limit that traffic has outgrown.
    for (every, units) in [(1, 60), (8, 2_000)] {
        let mut evidence = Evidence::default();
        for i in 0..units {
            for arm in [Side::Baseline, Side::Canary] {
                let bad = (i * 7 % every) == 0;
                let seen = fact(i, arm, Some(0.0));
                let seen = Observation { error: bad, latency_exceeded: bad, ..seen };
                evidence.observe(&seen).unwrap();
                let now = verdict(&policy(), &evidence);
                assert!(!matches!(now, Verdict::RollBack { .. }), "{now} after {i}");
            }
        }
        let told = judge(&policy(), &evidence, 0).reasons;
        let limit = told.iter().find(|finding| finding.test == Test::Limit).unwrap();
        assert!(limit.text.contains("of a baseline that is over the limit of"), "{}", limit.text);
    }
    // A canary that fails where its baseline hardly does still goes within a few units.
    let mut evidence = Evidence::default();
    let failed = |i, arm| Observation { error: true, ..fact(i, arm, None) };
    evidence.observe(&failed(0, Side::Baseline)).unwrap();
    let gone = (1..20).find(|&i| {
        evidence.observe(&fact(i, Side::Baseline, None)).unwrap();
        evidence.observe(&failed(i, Side::Canary)).unwrap();
        matches!(verdict(&policy(), &evidence), Verdict::RollBack { .. })
    });
    assert!(gone.is_some_and(|units| units <= 6), "{gone:?}");
}
