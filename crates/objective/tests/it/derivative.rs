//! Every derivative, held against central differences of its own loss.

use rand::Rng;
use understudy_manifest::{
    Aggregation, ImportanceCorrection, KlEstimator, KlGradient, LabelLoss, LabelSettings,
    PolicyLoss, PolicySettings, PreferenceLoss, PreferenceSettings,
};
use understudy_objective::{
    Side,
    label::{Label, LabelCounts, label},
    policy::{self, Advantage, PolicyCounts, Sample},
    preference::{PairCounts, pair},
};

use crate::random::{Reply, assert_all_close, log_probs, near, rng};

const STEP: f64 = 1e-6;
const TOLERANCE: f64 = 1e-7;

/// `(f(x + h) − f(x − h)) / 2h`, one coordinate at a time.
fn differences(at: &[f64], loss: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let moved = |index: usize, by: f64| {
        let mut there = at.to_vec();
        there[index] += by;
        loss(&there)
    };
    (0..at.len()).map(|t| (moved(t, STEP) - moved(t, -STEP)) / (2.0 * STEP)).collect()
}

#[test]
fn every_preference_loss() {
    let mut rng = rng(1);
    for loss in PreferenceLoss::ALL {
        for round in 0..20 {
            let usual = PreferenceSettings::for_loss(loss);
            let settings = PreferenceSettings {
                beta: rng.random_range(0.05..2.0),
                sft_weight: if round % 2 == 0 { 0.0 } else { 0.7 },
                label_smoothing: if loss.smooths_labels() { 0.15 } else { 0.0 },
                ld_alpha: if loss.needs_reference() && round % 3 == 0 { 0.3 } else { 1.0 },
                discopop_tau: 0.8,
                ..usual
            };
            settings.check().unwrap();
            let (long, short) = (rng.random_range(1..7), rng.random_range(1..7));
            let (c, r) = (log_probs(&mut rng, long), log_probs(&mut rng, short));
            let (c0, r0) = (near(&mut rng, &c, 0.5), near(&mut rng, &r, 0.5));
            let counts = PairCounts { pairs: 3, chosen_tokens: 11 };
            let compute = |c: &[f64], r: &[f64]| {
                let chosen = Side { log_probs: c, reference: Some(&c0) };
                let rejected = Side { log_probs: r, reference: Some(&r0) };
                pair(&settings, chosen, rejected, counts).unwrap()
            };
            let found = compute(&c, &r);
            let by_chosen = differences(&c, |c| compute(c, &r).loss);
            let by_rejected = differences(&r, |r| compute(&c, r).loss);
            assert_all_close(&found.chosen, &by_chosen, TOLERANCE, loss.as_str());
            assert_all_close(&found.rejected, &by_rejected, TOLERANCE, loss.as_str());
        }
    }
}

#[test]
fn every_label_loss() {
    let mut rng = rng(2);
    for loss in LabelLoss::ALL {
        for desirable in [true, false] {
            let settings =
                LabelSettings { loss, beta: 0.6, desirable_weight: 1.3, undesirable_weight: 0.8 };
            let at = log_probs(&mut rng, 6);
            let reference = near(&mut rng, &at, 0.5);
            let counts = LabelCounts { desirable: 2, undesirable: 5 };
            let compute = |log_probs: &[f64]| {
                let side = Side { log_probs, reference: Some(&reference) };
                label(&settings, Label { desirable, weight: 0.9 }, side, 0.2, counts).unwrap()
            };
            let expected = differences(&at, |log_probs| compute(log_probs).loss);
            assert_all_close(&compute(&at).coefficients, &expected, TOLERANCE, loss.as_str());
        }
    }
}

const COUNTS: PolicyCounts =
    PolicyCounts { replies: 4, tokens: 23, micro_batch_tokens: 9, micro_batches: 2 };

/// Differences of the loss by every token. Where the loss holds a ratio constant, `old` and the
/// sampler move along with the policy, which holds the ratio itself constant.
fn policy_differences(settings: &PolicySettings, reply: &Reply, holds_ratio: bool) -> Vec<f64> {
    let loss = |log_probs: &[f64]| {
        let mut there = reply.clone();
        for (t, lp) in log_probs.iter().enumerate() {
            let by = lp - reply.log_probs[t];
            there.log_probs[t] = *lp;
            there.old[t] += if holds_ratio { by } else { 0.0 };
            there.sampler[t] += if holds_ratio { by } else { 0.0 };
        }
        policy::sample(settings, there.sample(), COUNTS).unwrap().loss
    };
    differences(&reply.log_probs, loss)
}

fn check_policy(settings: &PolicySettings, holds_ratio: bool, seed: u64) {
    settings.check().unwrap();
    let mut rng = rng(seed);
    for _ in 0..20 {
        let reply = Reply::draw(&mut rng);
        let found = policy::sample(settings, reply.sample(), COUNTS).unwrap().coefficients;
        let expected = policy_differences(settings, &reply, holds_ratio);
        assert_all_close(&found, &expected, TOLERANCE, &format!("{settings:?}"));
    }
}

/// A narrow band, so that random ratios fall on every side of every bound.
fn narrow(loss: PolicyLoss) -> PolicySettings {
    let clips = loss.clips();
    PolicySettings {
        epsilon_low: 0.1,
        epsilon_high: 0.12,
        delta: if clips { 1.2 } else { 0.0 },
        dual_clip: if clips { 1.3 } else { 0.0 },
        ratio_cap: 1.1,
        band: 0.1,
        anchor: 0.4,
        ..PolicySettings::for_loss(loss)
    }
}

#[test]
fn every_policy_loss_under_every_aggregation_and_correction() {
    for loss in PolicyLoss::ALL {
        let holds_ratio =
            matches!(loss, PolicyLoss::Cispo | PolicyLoss::Vespo | PolicyLoss::Reinforce);
        for aggregation in Aggregation::ALL {
            for mode in ImportanceCorrection::ALL {
                let mut settings = PolicySettings { aggregation, ..narrow(loss) };
                settings.kl.beta = 0.3;
                settings.correction.mode = mode;
                settings.correction.min = 0.8;
                settings.correction.max = 1.25;
                if settings.check().is_ok() {
                    check_policy(&settings, holds_ratio, 3);
                } else {
                    assert!(matches!(loss, PolicyLoss::Dppo | PolicyLoss::Dro));
                }
            }
        }
    }
}

/// With the ratio held, its derivative inside the correction term would not be seen, so the losses
/// that hold it are left out.
#[test]
fn a_bias_corrected_pull_moves_with_its_ratio() {
    for loss in [PolicyLoss::Ppo, PolicyLoss::Gspo, PolicyLoss::Sapo, PolicyLoss::Dppo] {
        for gradient in KlGradient::ALL {
            let mut settings = narrow(loss);
            settings.kl.beta = 0.5;
            settings.kl.bias_corrected = true;
            settings.kl.gradient = gradient;
            settings.kl.estimator = match gradient {
                KlGradient::K2 => KlEstimator::K2,
                KlGradient::K3 => KlEstimator::K3,
            };
            check_policy(&settings, false, 4);
        }
    }
}

#[test]
fn the_off_policy_mask_takes_the_push_and_leaves_the_pull() {
    let mut settings = narrow(PolicyLoss::Ppo);
    settings.opsm_delta = 0.05;
    settings.kl.beta = 0.4;
    check_policy(&settings, false, 5);
    let mut reply = Reply::draw(&mut rng(6));
    reply.advantage = -1.0;
    reply.sampler = reply.log_probs.iter().map(|lp| lp + 0.2).collect();
    let dropped = policy::sample(&settings, reply.sample(), COUNTS).unwrap();
    assert_eq!(dropped.tally.report().opsm, Some(1.0));
    settings.kl.beta = 0.0;
    let silent = policy::sample(&settings, reply.sample(), COUNTS).unwrap();
    assert!(dropped.coefficients.iter().any(|coefficient| *coefficient != 0.0));
    assert!(silent.coefficients.iter().all(|coefficient| *coefficient == 0.0));
}

#[test]
fn the_off_policy_mask_is_for_bad_replies_and_by_the_mean_of_their_tokens() {
    let mut settings = narrow(PolicyLoss::Ppo);
    let tokens = 6;
    let log_probs = vec![-1.0; tokens];
    let sampler = vec![-0.9; tokens];
    let mut dropped = |opsm_delta, advantage| {
        settings.opsm_delta = opsm_delta;
        let sample = Sample {
            log_probs: &log_probs,
            old: Some(&log_probs),
            sampler: Some(&sampler),
            reference: Some(&log_probs),
            mask: None,
            advantage: Advantage::Reply(advantage),
        };
        policy::sample(&settings, sample, COUNTS).unwrap().tally.report().opsm
    };
    assert_eq!(dropped(0.05, -1.0), Some(1.0));
    assert_eq!(dropped(0.05, 1.0), Some(0.0));
    // The sum over the tokens is 0.6, but their mean is 0.1.
    assert_eq!(dropped(0.2, -1.0), Some(0.0));
    assert_eq!(dropped(0.0, -1.0), Some(0.0));
}

/// Beyond ±20 a log-ratio stands still: the loss is flat there, and finite.
#[test]
fn a_ratio_far_away_is_finite_and_flat() {
    let mut settings = narrow(PolicyLoss::Ppo);
    (settings.delta, settings.dual_clip) = (0.0, 0.0);
    let mut reply = Reply::draw(&mut rng(7));
    reply.advantage = -1.0;
    reply.old = reply.log_probs.iter().map(|lp| lp - 30.0).collect();
    reply.sampler.clone_from(&reply.old);
    reply.reference = reply.log_probs.iter().map(|lp| lp + 30.0).collect();
    for loss in PolicyLoss::ALL.into_iter().filter(|loss| !loss.is_anchored_to_sampler()) {
        let settings = PolicySettings { loss, ..settings.clone() };
        let found = policy::sample(&settings, reply.sample(), COUNTS).unwrap();
        assert!(found.loss.is_finite(), "{loss:?}");
        assert!(found.coefficients.iter().all(|coefficient| coefficient.is_finite()), "{loss:?}");
    }
    let found = policy::sample(&settings, reply.sample(), COUNTS).unwrap().coefficients;
    assert_all_close(&found, &policy_differences(&settings, &reply, false), TOLERANCE, "far");
    assert!(found.iter().all(|coefficient| *coefficient == 0.0));
}
