//! Routes, policies and judgements are stored as JSON: their form is golden, and nonsense is refused.

use serde_json::{Value, from_str, from_value, json, to_value};
use understudy_router::{Evidence, Judgement, Observation, Policy, Route, Side, judge};

fn route_json() -> Value {
    json!({
        "stable": { "kind": "teacher" },
        "canary": {
            "target": { "kind": "adapter", "version": "support-triage@3", "generation": "9f2c" },
            "share": 0.05,
            "salt": "000102030405060708090a0b0c0d0e0f",
        },
        "tap": { "share": 0.01, "salt": "ffffffffffffffffffffffffffffffff" },
    })
}

#[test]
fn a_route_has_one_form() {
    let route: Route = from_value(route_json()).unwrap();
    assert_eq!(to_value(&route).unwrap(), route_json());
    let plain: Route = from_str(r#"{"stable":{"kind":"base"}}"#).unwrap();
    assert_eq!((plain.canary, plain.tap), (None, None));
    for (path, wrong) in [
        ("/canary/share", json!(1.5)),
        ("/canary/salt", json!("0001")),
        ("/stable/kind", json!("star")),
    ] {
        let mut spoilt = route_json();
        *spoilt.pointer_mut(path).unwrap() = wrong;
        assert!(from_value::<Route>(spoilt).is_err(), "{path}");
    }
}

#[test]
fn a_policy_fills_in_its_defaults_and_knows_all_its_keys() {
    let text = r#"{"steps":[5,50,100],"margin":0.15,"rollback_on":["reward","safety"]}"#;
    let policy: Policy = from_str(text).unwrap();
    assert_eq!(policy.steps.last_comparison(), 1);
    assert_eq!(policy.alpha_slo, Policy::default().alpha_slo);
    assert_eq!(from_value::<Policy>(to_value(&policy).unwrap()).unwrap(), policy);
    for wrong in [r#"{"steps":[100]}"#, r#"{"margn":0.1}"#, r#"{"rollback_on":["speed"]}"#] {
        assert!(from_str::<Policy>(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_judgement_survives_even_with_an_overwhelming_e_value() {
    let mut evidence = Evidence::default();
    for i in 0..400 {
        for (arm, good) in [(Side::Canary, false), (Side::Baseline, true)] {
            let unit = format!("{arm:?}-{i}");
            let reward = Some(f64::from(u8::from(good)));
            let (error, latency_exceeded, unsafe_output) = (!good, !good, !good);
            let observation = Observation {
                reward,
                error,
                latency_exceeded,
                unsafe_output,
                ..Observation::served(unit, arm)
            };
            evidence.observe(&observation).unwrap();
        }
    }
    let judgement = judge(&Policy::default(), &evidence, 0);
    assert!(judgement.reasons.iter().any(|finding| finding.e_value == Some(f64::MAX)));
    let json = to_value(&judgement).unwrap();
    assert_eq!(json["verdict"], json!({ "kind": "roll_back", "guard": "errors" }));
    assert_eq!(from_value::<Judgement>(json).unwrap(), judgement);
}
