use serde_json::json;

use super::*;
use crate::{Aggregation, PolicyLoss, PreferenceLoss};

fn stage(value: Value) -> Result<TrainStage, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}

#[test]
fn every_method_survives_a_round_trip_with_everything_resolved() {
    let stages = [
        json!({"method": "sft", "turns": "last"}),
        json!({"method": "dpo", "loss": "simpo"}),
        json!({"method": "kto", "desirable_weight": 1.5}),
        json!({"method": "grpo", "rewards": ["json_valid", {"verify": "regex", "pattern": "^a"}]}),
        json!({"method": "grpo", "source": "environment", "environment": "x", "credit": "turn"}),
        json!({"method": "grpo", "source": "logged", "loss": "cispo", "advantage": "art"}),
    ];
    for written in stages {
        let stage = stage(written).unwrap();
        stage.objective.check().unwrap();
        let again = serde_json::to_value(&stage).unwrap();
        assert!(again.as_object().unwrap().len() > 13, "{again}");
        assert_eq!(serde_json::from_value::<TrainStage>(again).unwrap(), stage);
    }
}

#[test]
fn a_loss_brings_its_own_usual_numbers() {
    let simpo = stage(json!({"method": "dpo", "loss": "simpo"})).unwrap();
    let Objective::Dpo(settings) = &simpo.objective else { panic!("a pair loss") };
    assert_eq!((settings.loss, settings.beta, settings.gamma), (PreferenceLoss::Simpo, 2.0, 0.5));
    assert!(!simpo.objective.needs_reference());

    let gspo = stage(json!({
        "method": "grpo", "loss": "gspo", "rewards": ["exact"], "max_new_tokens": 48,
        "kl": {"beta": 0.0}, "advantage": {"scale": "none"},
    }));
    let gspo = gspo.unwrap();
    let Objective::Grpo(settings) = &gspo.objective else { panic!("a policy loss") };
    assert_eq!(settings.policy.loss, PolicyLoss::Gspo);
    assert_eq!(settings.policy.aggregation, Aggregation::Grpo);
    assert_eq!(settings.policy.max_completion_tokens, 48);
    assert_eq!((settings.group_size, gspo.adam_beta2, gspo.clip), (8, 0.99, 0.5));
    assert!(!gspo.objective.needs_reference());
}

#[test]
fn a_key_of_another_method_is_refused_and_says_whose_it_is() {
    let error = stage(json!({"method": "sft", "beta": 0.1})).unwrap_err();
    assert!(error.contains("`beta` only applies to method = \"dpo\" or method = \"kto\""));
    let error = stage(json!({"method": "dpo", "group_size": 4})).unwrap_err();
    assert!(error.contains("`group_size` only applies to method = \"grpo\""), "{error}");
    let error = stage(json!({"method": "sft", "epoch": 1})).unwrap_err();
    assert!(error.starts_with("unknown field `epoch`"), "{error}");
}

#[test]
fn a_value_of_the_wrong_kind_is_reported_under_its_key() {
    let error = stage(json!({"method": "dpo", "loss": "sigmoidal"})).unwrap_err();
    assert!(error.contains("unknown variant `sigmoidal`"), "{error}");
    let error = stage(json!({"method": "dpo", "beta": "much"})).unwrap_err();
    assert!(error.contains("`beta`"), "{error}");
    let error = stage(json!({"method": "grpo", "advantage": "trlx"})).unwrap_err();
    assert!(error.contains("there are trl, art and verl"), "{error}");
    let error = stage(json!({"method": "sft", "epochs": -1})).unwrap_err();
    assert!(error.contains("`epochs`"), "{error}");
}

#[test]
fn what_cannot_work_is_refused_by_key() {
    let refused = |value: Value| stage(value).unwrap().objective.check().unwrap_err().key;
    assert_eq!(refused(json!({"method": "grpo"})), "rewards");
    assert_eq!(
        refused(json!({"method": "grpo", "rewards": ["exact"], "group_size": 1})),
        "group_size"
    );
    assert_eq!(
        refused(json!({"method": "grpo", "rewards": ["exact"], "temperature": 0.0})),
        "temperature"
    );
    assert_eq!(refused(json!({"method": "grpo", "source": "environment"})), "environment");
    assert_eq!(
        refused(json!({"method": "grpo", "rewards": ["exact"], "allow_unsound": true})),
        "allow_unsound"
    );
    assert_eq!(
        refused(json!({"method": "grpo", "rewards": ["exact"], "credit": "turn"})),
        "credit"
    );
}

#[test]
fn health_says_what_happens_to_what_the_method_can_suffer() {
    let stage = stage(json!({
        "method": "grpo", "rewards": ["exact"], "health": {"entropy": "stop", "length": "off"}
    }));
    let health = stage.unwrap().health;
    assert_eq!(health[&HealthCheck::Entropy], Reaction::Stop);
    assert_eq!(health[&HealthCheck::Length], Reaction::Off);
    assert_eq!(health[&HealthCheck::Collapse], Reaction::Stop);
    assert!(!health.contains_key(&HealthCheck::ChosenLogProb));
}

#[test]
fn a_misspelt_method_is_recognised_and_a_missing_one_is_missed() {
    let error = stage(json!({"metod": "sft"})).unwrap_err();
    assert!(error.starts_with("unknown field `metod`, expected one of `method`"), "{error}");
    let error = stage(json!({"epochs": 1})).unwrap_err();
    assert!(error.contains("missing field `method`"), "{error}");
}
