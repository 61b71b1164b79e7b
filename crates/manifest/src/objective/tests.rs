use serde_json::{from_value, json, to_value};

use super::*;

#[test]
fn every_name_is_what_serde_writes() {
    for loss in PreferenceLoss::ALL {
        assert_eq!(to_value(loss).unwrap(), loss.as_str());
    }
    for loss in LabelLoss::ALL {
        assert_eq!(to_value(loss).unwrap(), loss.as_str());
    }
    for loss in PolicyLoss::ALL {
        assert_eq!(to_value(loss).unwrap(), loss.as_str());
    }
    for name in Aggregation::ALL {
        assert_eq!(to_value(name).unwrap(), name.as_str());
    }
    for name in AdvantageScale::ALL {
        assert_eq!(to_value(name).unwrap(), name.as_str());
    }
    for name in ImportanceCorrection::ALL {
        assert_eq!(to_value(name).unwrap(), name.as_str());
    }
    for name in KlEstimator::ALL {
        assert_eq!(to_value(name).unwrap(), name.as_str());
    }
    for name in KlGradient::ALL {
        assert_eq!(to_value(name).unwrap(), name.as_str());
    }
}

#[test]
fn the_usual_numbers_of_every_loss_pass_its_own_check_and_survive_a_round_trip() {
    for loss in PreferenceLoss::ALL {
        let settings = PreferenceSettings::for_loss(loss);
        settings.check().unwrap();
        assert_eq!(settings, from_value(to_value(&settings).unwrap()).unwrap());
        assert_eq!(settings, from_value(json!({ "loss": loss })).unwrap());
    }
    for loss in PolicyLoss::ALL {
        let settings = PolicySettings::for_loss(loss);
        settings.check().unwrap();
        assert_eq!(settings, from_value(to_value(&settings).unwrap()).unwrap());
        assert_eq!(settings, from_value(json!({ "loss": loss })).unwrap());
    }
    LabelSettings::default().check().unwrap();
    for preset in [AdvantageSettings::trl(), AdvantageSettings::art(), AdvantageSettings::verl()] {
        preset.check().unwrap();
    }
}

#[test]
fn nothing_written_gives_the_documented_defaults() {
    let policy: PolicySettings = from_value(json!({})).unwrap();
    assert_eq!(policy, PolicySettings::default());
    assert_eq!((policy.epsilon_low, policy.epsilon_high, policy.dual_clip), (0.2, 0.28, 3.0));
    assert_eq!((policy.kl.beta, policy.aggregation), (0.02, Aggregation::Dapo));
    let advantage: AdvantageSettings = from_value(json!({})).unwrap();
    assert_eq!((advantage.std_ddof, advantage.eps), (1, 1e-4));
    let label: LabelSettings = from_value(json!({})).unwrap();
    assert_eq!(label.loss, LabelLoss::ApoZeroUnpaired);
}

#[test]
fn a_setting_that_a_loss_would_ignore_is_refused_by_name() {
    let preference = |text| {
        let settings: PreferenceSettings = from_value(text).unwrap();
        settings.check().unwrap_err().key
    };
    assert_eq!(preference(json!({ "label_smoothing": 0.1 })), "label_smoothing");
    assert_eq!(preference(json!({ "gamma": 0.5 })), "gamma");
    assert_eq!(preference(json!({ "loss": "cpo", "ld_alpha": 0.5 })), "ld_alpha");
    assert_eq!(preference(json!({ "loss": "exo_pair", "label_smoothing": 0 })), "label_smoothing");
    assert_eq!(preference(json!({ "beta": 0 })), "beta");
    let policy = |text| {
        let settings: PolicySettings = from_value(text).unwrap();
        settings.check().unwrap_err().key
    };
    assert_eq!(policy(json!({ "loss": "sapo", "dual_clip": 3 })), "dual_clip");
    assert_eq!(policy(json!({ "delta": 1.1 })), "delta");
    assert_eq!(policy(json!({ "loss": "dppo", "correction": {} })), "correction.mode");
    assert_eq!(policy(json!({ "correction": { "min": 3 } })), "correction.max");
}

#[test]
fn a_misspelt_key_is_refused() {
    assert!(from_value::<PreferenceSettings>(json!({ "betta": 1 })).is_err());
    assert!(from_value::<LabelSettings>(json!({ "betta": 1 })).is_err());
    assert!(from_value::<PolicySettings>(json!({ "kl": { "betta": 1 } })).is_err());
    assert!(from_value::<AdvantageSettings>(json!({ "ddof": 1 })).is_err());
}
