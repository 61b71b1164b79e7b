use super::*;

#[test]
fn a_wrong_number_is_refused_by_its_name() {
    type Spoil = fn(&mut Policy);
    let spoilt: [(&str, Spoil); 5] = [
        ("alpha_rollback", |policy| policy.alpha_rollback = 0.5),
        ("margin", |policy| policy.margin = f64::NAN.into()),
        ("safety_slo", |policy| policy.safety_slo = 0.0),
        ("n_star", |policy| policy.n_star = f64::INFINITY),
        ("min_outcomes_per_step", |policy| policy.min_outcomes_per_step = 0),
    ];
    assert_eq!(Policy::default().validate(), Ok(()));
    for (name, spoil) in spoilt {
        let mut policy = Policy::default();
        spoil(&mut policy);
        let refused = policy.validate();
        assert!(matches!(refused, Err(RouterError::Policy { field, .. }) if field == name));
    }
    let unguarded = Policy { rollback_on: BTreeSet::new(), ..Policy::default() };
    assert_eq!(unguarded.validate(), Err(RouterError::NoGuards));
}

#[test]
fn a_policy_that_would_mislead_is_refused() {
    let pooled = Policy { control: Control::Pooled, ..Policy::default() };
    assert_eq!(pooled.validate(), Err(RouterError::PooledControl));
    assert!(RouterError::PooledControl.to_string().contains("concurrent"));
    let guards = [Guard::Cost].into();
    let uncapped = Policy { rollback_on: guards, ..Policy::default() };
    assert_eq!(uncapped.validate(), Err(RouterError::NoCostCap));
    let worst = Policy { missing: MissingReward::WorstCase, ..Policy::default() };
    assert_eq!(worst.validate(), Err(RouterError::NothingMissing));
    assert_eq!(Policy { maturation_ms: 1, ..worst }.validate(), Ok(()));
}

#[test]
fn the_levels_of_the_family_add_up_and_safety_stands_outside() {
    let policy = Policy::default();
    let family = [Guard::Errors, Guard::Latency].map(|guard| policy.alpha_harm(guard));
    let all = family.iter().sum::<f64>() + 2.0 * policy.alpha_harm(Guard::Reward);
    assert!((all - policy.alpha_rollback).abs() < 1e-12);
    assert_eq!(policy.alpha_harm(Guard::Safety), policy.alpha_slo);
    let alone = Policy { rollback_on: [Guard::Safety].into(), ..policy };
    assert_eq!(alone.alpha_harm(Guard::Errors), alone.alpha_rollback, "watched at the whole level");
}

#[test]
fn a_margin_is_a_number_or_a_share_of_the_baseline() {
    let read = |text| serde_json::from_str::<Margin>(text).unwrap();
    assert_eq!(read("0.05"), Margin::Absolute(0.05));
    assert_eq!(read(r#"{"relative":0.1}"#), Margin::Relative { relative: 0.1 });
    assert_eq!(Margin::Relative { relative: 0.1 }.at(0.5), 0.05);
    assert_eq!(Margin::Absolute(0.1).at(0.5), 0.1);
}
