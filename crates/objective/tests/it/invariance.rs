//! What must not change a loss, and what must change it in a known way.

use std::iter::zip;

use understudy_manifest::{
    Aggregation, ImportanceCorrection, KlEstimator, KlGradient, LabelLoss, LabelSettings,
    PolicyLoss, PolicySettings, PreferenceLoss, PreferenceSettings,
};
use understudy_objective::{
    ObjectiveError, Side,
    label::{Label, LabelCounts, LabelMetrics, baseline, label},
    policy::{self, Advantage, PolicyCounts, PolicyGradient, PolicyMetrics, PolicyTally, Sample},
    preference::{PairCounts, PreferenceMetrics, pair},
};

use crate::random::{Reply, assert_all_close, assert_close, counts, log_probs, near, rng};

const ONE_PAIR: PairCounts = PairCounts { pairs: 1, chosen_tokens: 4 };

fn replies(n: usize, seed: u64) -> Vec<Reply> {
    let mut rng = rng(seed);
    (0..n).map(|_| Reply::draw(&mut rng)).collect()
}

fn step(settings: &PolicySettings, replies: &[Reply], counts: PolicyCounts) -> Vec<PolicyGradient> {
    replies.iter().map(|reply| policy::sample(settings, reply.sample(), counts).unwrap()).collect()
}

#[test]
fn a_policy_equal_to_its_reference_has_the_loss_of_indifference() {
    let lp = log_probs(&mut rng(1), 4);
    let side = Side { log_probs: &lp, reference: Some(&lp) };
    let found = pair(&PreferenceSettings::default(), side, side, ONE_PAIR).unwrap();
    assert_close(found.loss, std::f64::consts::LN_2, 1e-15, "DPO");
    assert_eq!((found.metrics.margin, found.metrics.accuracy), (0.0, 0.0));
    let mut reply = Reply::draw(&mut rng(2));
    reply.reference.clone_from(&reply.log_probs);
    let sample = Sample { old: None, ..reply.sample() };
    let metrics = policy::sample(&PolicySettings::default(), sample, counts(&[reply.clone()]))
        .unwrap()
        .tally
        .report();
    assert_eq!(
        (metrics.kl, metrics.ratio_min, metrics.ratio_max),
        (Some(0.0), Some(1.0), Some(1.0))
    );
}

#[test]
fn swapping_the_two_replies_swaps_the_sign_of_the_margin() {
    let mut rng = rng(3);
    let (a, b) = (log_probs(&mut rng, 4), log_probs(&mut rng, 6));
    let (a0, b0) = (near(&mut rng, &a, 0.5), near(&mut rng, &b, 0.5));
    let a = Side { log_probs: &a, reference: Some(&a0) };
    let b = Side { log_probs: &b, reference: Some(&b0) };
    let settings = PreferenceSettings { beta: 0.7, ..PreferenceSettings::default() };
    let there = pair(&settings, a, b, ONE_PAIR).unwrap();
    let back = pair(&settings, b, a, ONE_PAIR).unwrap();
    assert_close(there.metrics.margin, -back.metrics.margin, 1e-15, "margin");
    assert_close(there.metrics.accuracy + back.metrics.accuracy, 1.0, 0.0, "accuracy");
    // −log σ(u) and −log σ(−u) differ by u.
    assert_close(back.loss - there.loss, there.metrics.margin, 1e-12, "loss");
}

#[test]
fn on_policy_the_gradient_is_that_of_reinforce() {
    for reply in replies(10, 4) {
        let counts = counts(std::slice::from_ref(&reply));
        let sample = Sample { old: None, ..reply.sample() };
        let gradient = |loss: PolicyLoss| {
            let mut settings =
                PolicySettings { aggregation: Aggregation::Grpo, ..PolicySettings::for_loss(loss) };
            settings.kl.beta = 0.0;
            settings.correction.mode = ImportanceCorrection::Off;
            policy::sample(&settings, sample, counts).unwrap().coefficients
        };
        let expected = gradient(PolicyLoss::Reinforce);
        let each = -reply.advantage / reply.trained() as f64;
        for (coefficient, trained) in zip(&expected, &reply.mask) {
            assert_close(*coefficient, if *trained { each } else { 0.0 }, 1e-15, "REINFORCE");
        }
        for loss in [
            PolicyLoss::Ppo,
            PolicyLoss::Gspo,
            PolicyLoss::Luspo,
            PolicyLoss::Cispo,
            PolicyLoss::Sapo,
            PolicyLoss::Vespo,
        ] {
            assert_all_close(&gradient(loss), &expected, 1e-15, loss.as_str());
        }
    }
}

#[test]
fn the_split_into_micro_batches_does_not_matter_but_to_bnpo() {
    let replies = replies(5, 5);
    let whole = counts(&replies);
    for aggregation in Aggregation::ALL {
        let settings = PolicySettings { aggregation, ..PolicySettings::default() };
        let at_once = step(&settings, &replies, whole);
        let in_parts: Vec<PolicyGradient> = [&replies[..2], &replies[2..]]
            .into_iter()
            .flat_map(|part| {
                let micro_batch_tokens = counts(part).tokens;
                step(
                    &settings,
                    part,
                    PolicyCounts { micro_batch_tokens, micro_batches: 2, ..whole },
                )
            })
            .collect();
        let loss = |of: &[PolicyGradient]| of.iter().map(|gradient| gradient.loss).sum::<f64>();
        let gap = (loss(&at_once) - loss(&in_parts)).abs();
        if aggregation == Aggregation::Bnpo {
            assert!(gap > 1e-6, "bnpo is expected to change");
        } else {
            assert!(gap < 1e-14, "{aggregation:?}: {gap}");
            assert!(zip(&at_once, &in_parts).all(|(a, b)| a.coefficients == b.coefficients));
        }
        let tally = |of: &[PolicyGradient]| {
            let mut tally = PolicyTally::default();
            for gradient in of {
                tally += gradient.tally;
            }
            tally
        };
        assert_eq!(tally(&at_once), tally(&in_parts));
    }
}

#[test]
fn pairs_and_labels_add_up_to_the_means_of_their_step() {
    let mut rng = rng(6);
    let settings = PreferenceSettings { sft_weight: 0.4, ..PreferenceSettings::default() };
    let lengths = [(3, 5), (6, 2), (1, 4)];
    let counts = PairCounts { pairs: 3, chosen_tokens: 10 };
    let (mut total, mut mean, mut metrics) = (0.0, 0.0, PreferenceMetrics::default());
    for (chosen, rejected) in lengths {
        let (c, r) = (log_probs(&mut rng, chosen), log_probs(&mut rng, rejected));
        let (c0, r0) = (near(&mut rng, &c, 0.5), near(&mut rng, &r, 0.5));
        let chosen = Side { log_probs: &c, reference: Some(&c0) };
        let rejected = Side { log_probs: &r, reference: Some(&r0) };
        let share = pair(&settings, chosen, rejected, counts).unwrap();
        total += share.loss;
        metrics += share.metrics;
        let plain = PreferenceSettings::default();
        mean += pair(&plain, chosen, rejected, ONE_PAIR).unwrap().loss / 3.0;
        mean -= 0.4 * c.iter().sum::<f64>() / 10.0;
    }
    assert_close(total, mean, 1e-14, "loss");
    let margin = metrics.reward_chosen - metrics.reward_rejected;
    assert_close(metrics.margin, margin, 1e-14, "margin");
}

/// Dropping replies without advantage shortens the gradient's denominator, and that is all.
#[test]
fn replies_without_advantage_change_the_denominator_alone() {
    let mut step_of = replies(6, 7);
    step_of[1].advantage = 0.0;
    step_of[4].advantage = 0.0;
    let kept: Vec<Reply> = step_of.iter().filter(|reply| reply.advantage != 0.0).cloned().collect();
    let (all, fewer) = (counts(&step_of), counts(&kept));
    for aggregation in [Aggregation::Grpo, Aggregation::DrGrpo, Aggregation::Dapo] {
        let mut settings = PolicySettings { aggregation, ..PolicySettings::default() };
        settings.kl.beta = 0.0;
        let ratio = match aggregation {
            Aggregation::Dapo => all.tokens as f64 / fewer.tokens as f64,
            _ => all.replies as f64 / fewer.replies as f64,
        };
        let silent: Vec<PolicyGradient> = step(&settings, &step_of, all);
        for (reply, gradient) in zip(&step_of, &silent) {
            let moves = gradient.coefficients.iter().any(|coefficient| *coefficient != 0.0);
            assert!(reply.advantage != 0.0 || !moves);
        }
        let loud = zip(&step_of, silent).filter(|(reply, _)| reply.advantage != 0.0);
        for (shorter, (_, longer)) in zip(step(&settings, &kept, fewer), loud) {
            let scaled: Vec<f64> = longer.coefficients.iter().map(|value| value * ratio).collect();
            assert_all_close(&shorter.coefficients, &scaled, 1e-14, aggregation.as_str());
        }
    }
}

#[test]
fn what_the_mask_leaves_out_is_never_read() {
    let mut rng = rng(8);
    let mut reply = Reply::draw(&mut rng);
    reply.log_probs.extend([-1.0, -2.0]);
    for values in [&mut reply.old, &mut reply.sampler, &mut reply.reference] {
        values.extend([f64::NAN, f64::INFINITY]);
    }
    reply.mask.extend([false, false]);
    let counts = counts(std::slice::from_ref(&reply));
    for loss in PolicyLoss::ALL {
        let settings = PolicySettings::for_loss(loss);
        let found = policy::sample(&settings, reply.sample(), counts).unwrap();
        assert!(found.loss.is_finite());
        assert!(found.coefficients.iter().all(|value| value.is_finite()));
        assert_eq!(found.coefficients[reply.mask.len() - 2..], [0.0, 0.0]);
    }
}

#[test]
fn in_bypass_nothing_is_weighted_twice() {
    let reply = Reply::draw(&mut rng(9));
    let counts = counts(std::slice::from_ref(&reply));
    let bypass = Sample { old: Some(&reply.sampler), ..reply.sample() };
    let with = |mode| {
        let mut settings = PolicySettings::default();
        settings.correction.mode = mode;
        policy::sample(&settings, bypass, counts).unwrap()
    };
    let off = with(ImportanceCorrection::Off);
    for mode in ImportanceCorrection::ALL {
        let found = with(mode);
        assert_eq!((found.loss, &found.coefficients), (off.loss, &off.coefficients));
    }
}

#[test]
fn a_pull_has_the_value_of_one_estimator_and_the_gradient_of_another() {
    let mut reply = Reply::draw(&mut rng(10));
    reply.advantage = 0.0;
    let counts = counts(std::slice::from_ref(&reply));
    let with = |estimator, gradient| {
        let mut settings = PolicySettings::default();
        (settings.kl.estimator, settings.kl.gradient) = (estimator, gradient);
        policy::sample(&settings, reply.sample(), counts).unwrap()
    };
    for estimator in KlEstimator::ALL {
        let (by_k2, by_k3) = (with(estimator, KlGradient::K2), with(estimator, KlGradient::K3));
        assert_eq!(by_k2.loss, by_k3.loss);
        let other = with(KlEstimator::K3, KlGradient::K2);
        assert_eq!(by_k2.coefficients, other.coefficients);
        let share = 0.02 / counts.tokens as f64;
        for (t, trained) in reply.mask.iter().enumerate().filter(|(_, trained)| **trained) {
            assert!(*trained);
            let x = reply.log_probs[t] - reply.reference[t];
            assert_close(by_k2.coefficients[t], share * x, 1e-15, "k2");
            assert_close(by_k3.coefficients[t], share * (1.0 - (-x).exp()), 1e-15, "k3");
        }
    }
}

#[test]
fn a_baseline_is_never_below_zero_and_pulls_no_gradient_of_its_own() {
    assert_eq!(baseline(&[0.5, -0.1]), 0.2);
    assert_eq!(baseline(&[-0.5, 0.1]), 0.0);
    assert_eq!(baseline(&[]), 0.0);
    let settings = LabelSettings { loss: LabelLoss::Kto, ..LabelSettings::default() };
    let counts = LabelCounts { desirable: 1, undesirable: 1 };
    let side = Side { log_probs: &[-1.0], reference: Some(&[-1.5]) };
    let mut metrics = LabelMetrics::default();
    assert_eq!(metrics.margin(), None);
    for desirable in [true, false] {
        let label = label(&settings, Label { desirable, weight: 1.0 }, side, 0.5, counts).unwrap();
        // At the baseline the reply is neither better nor worse than expected.
        assert_close(label.loss, 0.25, 1e-15, "kto");
        metrics += label.metrics;
    }
    assert_close(metrics.margin().unwrap(), 0.0, 1e-15, "margin");
}

#[test]
fn metrics_survive_being_written_and_leave_out_what_was_not_measured() {
    let reply = Reply::draw(&mut rng(12));
    let counts = counts(std::slice::from_ref(&reply));
    let settings = PolicySettings::default();
    let metrics = policy::sample(&settings, reply.sample(), counts).unwrap().tally.report();
    let written = serde_json::to_value(metrics).unwrap();
    assert!(written["clip_ratio/region_mean"].is_number() && written["mismatch/ess"].is_number());
    assert_eq!(metrics, serde_json::from_value(written).unwrap());
    let nothing = PolicyTally::default().report();
    assert_eq!(nothing, PolicyMetrics::default());
    assert_eq!(serde_json::to_value(nothing).unwrap(), serde_json::json!({}));
    assert_eq!(nothing, serde_json::from_str("{}").unwrap());
}

#[test]
fn f32_and_f64_log_probabilities_are_the_same_numbers() {
    let (wide, narrow) = ([-0.5f64, -1.25], [-0.5f32, -1.25]);
    let settings = PreferenceSettings::default();
    let of_wide = Side { log_probs: &wide, reference: Some(&wide) };
    let of_narrow = Side { log_probs: &narrow, reference: Some(&narrow) };
    assert_eq!(
        pair(&settings, of_wide, of_wide, ONE_PAIR),
        pair(&settings, of_narrow, of_narrow, ONE_PAIR)
    );
}

#[test]
fn a_row_without_what_its_loss_needs_is_an_error_and_not_a_guess() {
    let lp = [-1.0, -2.0];
    let alone = Side { log_probs: &lp, reference: None };
    for loss in PreferenceLoss::ALL {
        let settings = PreferenceSettings::for_loss(loss);
        let found = pair(&settings, alone, alone, ONE_PAIR);
        let expected = ObjectiveError::NoReference { what: loss.as_str() };
        assert_eq!(found.err(), loss.needs_reference().then_some(expected));
    }
    let reply = Reply::draw(&mut rng(11));
    let counts = counts(std::slice::from_ref(&reply));
    let settings = PolicySettings::default();
    let compute = |sample| policy::sample(&settings, sample, counts).map(|_| ()).unwrap_err();
    assert_eq!(
        compute(Sample { reference: None, ..reply.sample() }),
        ObjectiveError::NoReference { what: "divergence" }
    );
    assert_eq!(
        compute(Sample { sampler: None, ..reply.sample() }),
        ObjectiveError::NoSampler { what: "importance correction" }
    );
    assert!(matches!(
        compute(Sample { mask: Some(&[]), ..reply.sample() }),
        ObjectiveError::Length { what: "mask", found: 0, .. }
    ));
    assert!(matches!(
        compute(Sample { advantage: Advantage::Reply(f64::NAN), ..reply.sample() }),
        ObjectiveError::NotFinite { what: "advantage", .. }
    ));
}
