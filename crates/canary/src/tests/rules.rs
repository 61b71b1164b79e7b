use understudy_manifest::Recipe;

use super::*;
use crate::PolicyDefaults;

#[test]
fn rules_keep_everything_a_recipe_says() {
    let text = "schema = 1\ntask = \"t\"\nbase = \"b\"\n[[train]]\nmethod = \"sft\"\n\
                [gate]\nsuite = \"t\"\n[release]\nsteps = [5, 100]\ntap = 0.25\n\
                rollback_on = [\"reward\", \"cost\"]\nlatency_slo_ms = 1500\nmax_outcomes = 77\n\
                maturation_s = 60\nmin_step_s = 5\nmax_age_s = 9\nmissing = \"worst_case\"\non_small_harm = \"hold\"\ncost_cap = 900\n";
    let release = Recipe::parse("r", text).unwrap().release.unwrap();
    let rules = Rules::of(&release, RewardPolicy::DefaultV1).unwrap();
    assert_eq!(rules.policy.steps.share(0).get(), 0.05);
    assert_eq!(rules.policy.rollback_on, release.rollback_on);
    assert_eq!((rules.policy.max_units, rules.latency_slo_ms), (77, Some(1500.0)));
    assert_eq!(rules.tap.get(), 0.25);
    let policy = rules.policy;
    assert_eq!((policy.maturation_ms, policy.cost_cap), (60_000, Some(900.0)));
    assert_eq!((policy.min_step_ms, policy.max_age_ms), (5_000, Some(9_000)));
    assert_eq!((policy.missing, policy.on_small_harm), (release.missing, release.on_small_harm));
    assert_ne!((release.missing, release.on_small_harm), Default::default());
}

#[test]
fn a_deployment_s_defaults_are_for_what_a_recipe_does_not_say() {
    let release = Release { margin: 0.07, ..Release::default() };
    let rules = |defaults: &PolicyDefaults| {
        Rules::under(defaults, &release, RewardPolicy::DefaultV1).map(|rules| rules.policy)
    };
    let plain = Rules::of(&release, RewardPolicy::DefaultV1).unwrap().policy;
    assert_eq!(rules(&PolicyDefaults::default()).unwrap(), plain);
    let strict: PolicyDefaults =
        serde_json::from_value(json!({"error_slo": 0.01, "n_star": 3000.0})).unwrap();
    let policy = rules(&strict).unwrap();
    assert_eq!((policy.error_slo, policy.n_star, policy.margin), (0.01, 3000.0, 0.07.into()));
    assert_eq!(policy.alpha_slo, plain.alpha_slo);
    // What the recipe says belongs into the recipe.
    for unknown in [json!({"margin": 0.1}), json!({"eror_slo": 0.1})] {
        assert!(serde_json::from_value::<PolicyDefaults>(unknown).is_err());
    }
    let wrong = PolicyDefaults { safety_slo: 2.0, ..PolicyDefaults::default() };
    assert!(wrong.validate().unwrap_err().to_string().contains("`safety_slo`"));
    assert!(rules(&wrong).is_err());
}

#[test]
fn a_recipe_says_who_stands_beside_the_arms() {
    let shadow = understudy_manifest::Shadow { share: 0.5 };
    let observe = understudy_manifest::Observe { share: 0.1, on_cue: Some(0.3) };
    let release = Release {
        shadow: Some(shadow),
        observe: Some(observe.clone()),
        escalate: Some(understudy_manifest::Escalate::default()),
        long_reply_tokens: Some(80),
        ..Release::default()
    };
    let rules = Rules::of(&release, RewardPolicy::DefaultV1).unwrap();
    let again: Rules = serde_json::from_value(rules.to_value()).unwrap();
    assert_eq!(again, rules);
    let candidate = understudy_router::Target::Base;
    let support = rules.support(&task(), Some(candidate.clone()));
    assert_eq!(support.observe.as_ref().unwrap().rules, observe);
    let shadow = support.shadow.unwrap();
    assert_eq!((shadow.target, shadow.share.get()), (candidate, 0.5));
    assert_ne!(shadow.salt, support.observe.unwrap().salt);
    assert!(rules.support(&task(), None).shadow.is_none(), "without a candidate nobody is watched");
}
