use understudy_ident::{OutcomeId, Timestamp};

use super::*;
use crate::{RewardPolicy, Target};

fn outcome(signal: Signal, source: Source) -> Outcome {
    Outcome {
        id: OutcomeId::generate(),
        target: Target::Response("r".to_owned()),
        signal,
        source,
        at: Timestamp::UNIX_EPOCH,
        note: None,
        details: None,
    }
}

/// In [0, 1), the same for the same number and purpose.
fn chance(nth: usize, purpose: &str) -> f64 {
    let digest = Digest::of_parts([purpose.as_bytes(), &nth.to_le_bytes()]);
    f64::from(u32::from_le_bytes(digest.as_bytes()[..4].try_into().unwrap())) / 2f64.powi(32)
}

/// Replies of a known quality: people accept with that probability, copy and tests follow it, a
/// planted signal goes against it, and another one is noise.
fn world(count: usize) -> Vec<(f64, Vec<Outcome>)> {
    let reply = |nth: usize| {
        let quality = chance(nth, "quality");
        let said = if chance(nth, "said") < quality { Signal::Accept } else { Signal::Abandon };
        let mut outcomes = vec![outcome(said, Source::Explicit)];
        let mut seen = |name: &str, p: f64, signal: Signal, source| {
            if chance(nth, name) < p {
                outcomes.push(outcome(signal, source));
            }
        };
        let tests = |score| Signal::Verifier { name: "tests".to_owned(), score };
        seen("copied", quality, Signal::Accept, Source::Implicit);
        seen("passed", 0.2 + 0.6 * quality, tests(1.0), Source::Automated);
        seen("planted", 1.0 - quality, Signal::Rating { value: 1.0 }, Source::Implicit);
        seen("noise", 0.5, Signal::Regenerate { kept: None }, Source::Implicit);
        (quality, outcomes)
    };
    (0..count).map(reply).collect()
}

fn overlaps(world: &[(f64, Vec<Outcome>)]) -> Vec<Overlap> {
    let one = |(nth, (_, outcomes)): (usize, &(f64, Vec<Outcome>))| {
        Overlap::of(&nth.to_string(), outcomes)
    };
    world.iter().enumerate().filter_map(one).collect()
}

#[test]
fn a_known_quality_is_recovered_and_a_planted_signal_is_not_believed() {
    let world = world(4000);
    let calibration = Calibration::fit(overlaps(&world)).unwrap();
    let weight = |name: &str| calibration.signals[name].weight;
    assert!(weight("implicit accept") > 0.5, "{calibration:#?}");
    assert!(weight("automated tests high") > 0.2);
    assert!(weight("implicit rating high") < -0.5, "what goes against it counts against it");
    assert_eq!(weight("implicit regenerate"), 0.0, "noise weighs nothing");
    assert!(calibration.auc > 0.7 && calibration.auc < 0.95, "{}", calibration.auc);
    assert!(calibration.ece <= 0.05, "{}", calibration.ece);
    assert!(calibration.brier < 0.22, "{}", calibration.brier);
    // Groups of replies with the same signals are in the order of their true quality.
    let mut groups: BTreeMap<u64, (f64, usize)> = BTreeMap::new();
    for (quality, outcomes) in &world {
        if let Some(p) = calibration.probability(outcomes) {
            let (sum, count) = groups.entry((p * 1e6) as u64).or_default();
            (*sum, *count) = (*sum + quality, *count + 1);
        }
    }
    let means: Vec<f64> =
        groups.values().filter(|(_, n)| *n > 50).map(|(s, n)| s / *n as f64).collect();
    let rises = means.windows(2).filter(|pair| pair[0] < pair[1]).count();
    assert!(means.len() >= 6 && rises + 1 >= means.len() * 9 / 10, "{means:?}");
}

#[test]
fn order_makes_no_difference_and_too_little_gives_nothing() {
    let world = world(300);
    let mut turned = overlaps(&world);
    turned.reverse();
    assert_eq!(Calibration::fit(overlaps(&world)), Calibration::fit(turned));
    assert_eq!(Calibration::fit(overlaps(&world[..5])), None);
    let wanted: Vec<Overlap> = overlaps(&world).into_iter().filter(|one| one.wanted).collect();
    assert_eq!(Calibration::fit(wanted), None, "one side alone tells nothing");
}

#[test]
fn perfect_separation_stays_finite() {
    let one = |nth: usize| {
        let said = if nth.is_multiple_of(2) { Signal::Accept } else { Signal::Abandon };
        let both = [outcome(said.clone(), Source::Explicit), outcome(said, Source::Implicit)];
        Overlap::of(&nth.to_string(), &both).unwrap()
    };
    let calibration = Calibration::fit((0..100).map(one).collect()).unwrap();
    assert_eq!(calibration.auc, 1.0);
    assert!(calibration.platt.slope.is_finite() && calibration.platt.intercept.is_finite());
    assert!(calibration.ece < 0.1);
}

#[test]
fn people_who_disagree_and_edits_are_no_overlap() {
    let copied = || outcome(Signal::Accept, Source::Implicit);
    let said = |signal| outcome(signal, Source::Explicit);
    let of = |outcomes: &[Outcome]| Overlap::of("u", outcomes).map(|overlap| overlap.wanted);
    assert_eq!(of(&[said(Signal::Accept), copied()]), Some(true));
    assert_eq!(of(&[said(Signal::Rating { value: 0.2 }), copied()]), Some(false));
    assert_eq!(of(&[said(Signal::Accept), said(Signal::Abandon), copied()]), None);
    assert_eq!(of(&[said(Signal::Edit { text: "x".to_owned() }), copied()]), None);
    assert_eq!(of(&[said(Signal::Accept)]), None);
    assert_eq!(of(&[copied()]), None);
}

#[test]
fn behaviour_counts_as_far_as_it_was_found_to_tell_something() {
    let world = world(4000);
    let seen: Vec<Overlap> = overlaps(&world).into_iter().filter_map(Overlap::behaviour).collect();
    let calibration = Calibration::fit(seen).unwrap();
    assert!(calibration.signals.keys().all(|name| name.starts_with("implicit ")));
    assert!(calibration.strength() > 0.3 && calibration.strength() < 1.0, "{calibration:#?}");
    let policy = RewardPolicy::CalibratedV1;
    let reward = |outcomes: &[Outcome]| policy.reward_by(Some(&calibration), "reply", outcomes);
    let copied = outcome(Signal::Accept, Source::Implicit);
    let planted = outcome(Signal::Rating { value: 1.0 }, Source::Implicit);
    let noise = outcome(Signal::Regenerate { kept: None }, Source::Implicit);
    let good = reward(std::slice::from_ref(&copied)).unwrap();
    let bad = reward(std::slice::from_ref(&planted)).unwrap();
    assert!(good.value > 0.6, "{good:?}");
    assert!(bad.value < 0.4, "what looks like praise and goes against it: {bad:?}");
    assert_eq!(good.policy, "calibrated@1");
    assert_eq!(good.weight(), calibration.strength());
    // Each is kept as a component, and counts together with the others, once.
    assert_eq!(good.components.len(), 2);
    assert_eq!(reward(std::slice::from_ref(&noise)), None, "noise is no opinion");
    let both = reward(&[copied.clone(), noise]).unwrap();
    assert_eq!(both.value, good.value);

    // What somebody says counts for more; a program's word as much as it did.
    let said = reward(&[outcome(Signal::Abandon, Source::Explicit), copied.clone()]).unwrap();
    assert!(said.value < 0.5 && said.value > 0.0, "{said:?}");
    let tests = Signal::Verifier { name: "tests".to_owned(), score: 1.0 };
    let passed = reward(&[outcome(tests, Source::Automated)]).unwrap();
    assert_eq!((passed.value, passed.weight()), (1.0, 1.0));
    // A flag is no behaviour to calibrate.
    let flag = outcome(Signal::Flag { reason: "harm".to_owned() }, Source::Implicit);
    let flagged = reward(&[copied.clone(), flag]).unwrap();
    assert_eq!((flagged.value, flagged.weight()), (0.0, 1.0));

    // Without a calibration, or with one whose probabilities are off, behaviour is no opinion.
    assert_eq!(policy.reward("reply", std::slice::from_ref(&copied)), None);
    let off = Calibration { ece: 0.2, ..calibration };
    assert_eq!(policy.reward_by(Some(&off), "reply", std::slice::from_ref(&copied)), None);
    let before = RewardPolicy::DefaultV1.reward_by(Some(&off), "reply", &[copied]).unwrap();
    assert_eq!((before.value, before.weight()), (1.0, 0.25), "the default does not calibrate");
}
