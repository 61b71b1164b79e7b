//! That no variant a recipe can name lacks a golden step.

use std::collections::BTreeSet;

use understudy_manifest::{
    Aggregation, GrpoSettings, ImportanceCorrection as Correction, KlEstimator, KlGradient,
    LabelLoss, LabelSettings, Objective, PolicyLoss, PreferenceLoss, PreferenceSettings,
};

use super::fixture::{Case, Fixture};

const FAMILIES: [&str; 3] = ["llama", "qwen2", "qwen3"];

/// Asserts that some case fits, or says which variant is missing.
fn assert_some<T>(cases: &[(Case, T)], variant: &str, fits: impl Fn(&Case, &T) -> bool) {
    assert!(cases.iter().any(|(case, settings)| fits(case, settings)), "no golden {variant}");
}

fn cases<T>(method: &str, settings: impl Fn(Objective) -> T) -> Vec<(Case, T)> {
    let cases = Fixture::load(method).cases.into_iter();
    cases.map(|case| (settings(case.stage().objective), case)).map(|(s, case)| (case, s)).collect()
}

#[test]
fn imitation_is_there_for_every_family() {
    let cases = Fixture::load("imitation").cases;
    let families: BTreeSet<&str> = cases.iter().map(|case| &case.family[..]).collect();
    assert_eq!(families, BTreeSet::from(FAMILIES));
}

#[test]
fn every_preference_loss_is_there() {
    // CPO and ORPO imitate of themselves.
    let is_plain = |s: &PreferenceSettings| {
        s.ld_alpha == 1.0 && s.sft_weight == PreferenceSettings::for_loss(s.loss).sft_weight
    };
    let cases: Vec<(Case, PreferenceSettings)> = cases("preference", |objective| match objective {
        Objective::Dpo(settings) => settings,
        other => panic!("{other:?} among preferences"),
    });
    for loss in PreferenceLoss::ALL {
        assert_some(&cases, loss.as_str(), |_, s| s.loss == loss && is_plain(s));
    }
    assert_some(&cases, "ld-dpo", |_, s| s.ld_alpha == 0.5);
    assert_some(&cases, "imitation beside", |_, s| {
        s.loss == PreferenceLoss::Sigmoid && s.sft_weight > 0.0
    });
    for family in FAMILIES {
        assert_some(&cases, family, |case, s| {
            case.family == family && s.loss == PreferenceLoss::Sigmoid && is_plain(s)
        });
    }
}

#[test]
fn every_loss_on_labels_is_there() {
    let cases: Vec<(Case, LabelSettings)> = cases("label", |objective| match objective {
        Objective::Kto(settings) => settings,
        other => panic!("{other:?} among labels"),
    });
    for loss in LabelLoss::ALL {
        for weighted in [false, true] {
            let variant = format!("{} with weights: {weighted}", loss.as_str());
            assert_some(&cases, &variant, |case, s| {
                let sides_differ = s.desirable_weight != s.undesirable_weight;
                s.loss == loss && case.has("weights") == weighted && sides_differ
            });
        }
    }
}

fn policy_cases() -> Vec<(Case, GrpoSettings)> {
    cases("policy", |objective| match objective {
        Objective::Grpo(settings) => *settings,
        other => panic!("{other:?} among policies"),
    })
}

/// Whether a case has nothing on top of its loss.
fn is_plain(case: &Case, settings: &GrpoSettings) -> bool {
    let policy = &settings.policy;
    let added = [policy.kl.beta, policy.delta, policy.dual_clip, policy.opsm_delta];
    let is_usual = case.has("old") && !case.has("token_advantages");
    is_usual && policy.correction.mode == Correction::Off && added == [0.0; 4]
}

#[test]
fn every_policy_loss_and_aggregation_is_there() {
    let cases = policy_cases();
    assert!(cases.iter().all(|(_, s)| s.temperature == 0.7));
    for loss in PolicyLoss::ALL {
        assert_some(&cases, loss.as_str(), |case, s| s.policy.loss == loss && is_plain(case, s));
    }
    let ppo = |s: &GrpoSettings| s.policy.loss == PolicyLoss::Ppo;
    for aggregation in Aggregation::ALL {
        assert_some(&cases, aggregation.as_str(), |_, s| {
            ppo(s) && s.policy.aggregation == aggregation
        });
    }
    for count in [1, 2] {
        assert_some(&cases, "bnpo by micro-batches", |case, s| {
            s.policy.aggregation == Aggregation::Bnpo && case.micro_batches == Some(count)
        });
    }
    for family in FAMILIES {
        assert_some(&cases, family, |case, s| {
            let is_dapo = ppo(s) && s.policy.aggregation == Aggregation::Dapo;
            case.family == family && is_dapo && is_plain(case, s)
        });
    }
    assert_some(&cases, "old policy of the moment", |case, s| ppo(s) && !case.has("old"));
    assert_some(&cases, "advantages of tokens", |case, _| case.has("token_advantages"));
    assert_some(&cases, "two-sided delta", |_, s| ppo(s) && s.policy.delta > 0.0);
    assert_some(&cases, "dual clip", |_, s| ppo(s) && s.policy.dual_clip > 0.0);
    assert_some(&cases, "sequence mask", |_, s| ppo(s) && s.policy.opsm_delta > 0.0);
}

#[test]
fn every_correction_and_every_divergence_is_there() {
    let cases = policy_cases();
    for mode in Correction::ALL {
        assert_some(&cases, mode.as_str(), |_, s| {
            s.policy.loss == PolicyLoss::Ppo && s.policy.correction.mode == mode
        });
    }
    assert_some(&cases, "corrected vespo", |_, s| {
        s.policy.loss == PolicyLoss::Vespo && s.policy.correction.mode != Correction::Off
    });
    for mode in [Correction::TokenTruncate, Correction::SequenceTruncate] {
        assert_some(&cases, "corrected reinforce", |_, s| {
            s.policy.loss == PolicyLoss::Reinforce && s.policy.correction.mode == mode
        });
    }
    for estimator in KlEstimator::ALL {
        assert_some(&cases, estimator.as_str(), |_, s| {
            let kl = &s.policy.kl;
            let is_straight_through = kl.gradient == KlGradient::K2 && !kl.bias_corrected;
            kl.beta > 0.0 && kl.estimator == estimator && is_straight_through
        });
    }
    for gradient in KlGradient::ALL {
        for corrected in [false, true] {
            let variant = format!("gradient of {}, corrected: {corrected}", gradient.as_str());
            assert_some(&cases, &variant, |_, s| {
                let kl = &s.policy.kl;
                kl.beta > 0.0 && kl.gradient == gradient && kl.bias_corrected == corrected
            });
        }
    }
}
