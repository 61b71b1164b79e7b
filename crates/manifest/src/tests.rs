use serde_json::json;

use crate::{Case, Check, Method, Recipe, Risk, Scorer, Suite, SuiteError, canonical_json};

const SMALL: &str = r#"
schema = 1
task = "support-triage"
base = "smollm2-135m-instruct"

[lora]
rank = 8

[[train]]
method = "sft"

[[train]]
method = "dpo"
beta = 0.2

[gate]
suite = "support-triage"

[release]
steps = [10, 50, 100]
"#;

fn error_of(text: &str) -> crate::RecipeError {
    Recipe::parse("recipes/x.toml", text).unwrap_err()
}

#[test]
fn defaults_are_resolved_per_method() {
    let recipe = Recipe::parse("r", SMALL).unwrap();
    assert_eq!(recipe.train[0].method, Method::Sft);
    assert!(recipe.train[0].learning_rate > recipe.train[1].learning_rate);
    let crate::Objective::Dpo(dpo) = &recipe.train[1].objective else { panic!("a pair loss") };
    assert_eq!(dpo.beta, 0.2);
    assert_eq!(recipe.data.holdout, 0.2);
    assert_eq!(recipe.release.unwrap().steps, [10, 50, 100]);
}

#[test]
fn comments_and_explicit_defaults_do_not_change_the_digest() {
    let explicit = SMALL.replace("rank = 8", "rank = 8 # small\nalpha = 32");
    let one = Recipe::parse("a", SMALL).unwrap();
    let other = Recipe::parse("b", &explicit).unwrap();
    assert_eq!(one.digest(), other.digest());
    let changed = Recipe::parse("c", &SMALL.replace("rank = 8", "rank = 9")).unwrap();
    assert_ne!(one.digest(), changed.digest());
}

#[test]
fn when_a_run_begins_is_no_part_of_its_digest_and_is_checked_like_the_rest() {
    let with = |table: &str| format!("{SMALL}\n[loop]\n{table}");
    let one = Recipe::parse("a", SMALL).unwrap();
    let other = Recipe::parse("b", &with("min_new = 40\nmin_interval = \"90s\"")).unwrap();
    assert_eq!(one.digest(), other.digest());
    let settings = other.unattended.unwrap();
    assert_eq!((settings.min_new, settings.min_interval.as_ms()), (40, 90_000));
    let stored = serde_json::to_string(&settings).unwrap();
    assert_eq!(serde_json::from_str::<crate::Unattended>(&stored).unwrap(), settings);
    for (table, key) in [
        ("min_new = 0", "min_new"),
        ("min_news = 1", "min_news"),
        ("min_new = 8\nmin_new_when_falling = 9", "min_new_when_falling"),
        ("min_interval = \"soon\"", "is not a time"),
        ("quiet_hours = [\"00:00-12:00\", \"12:00-00:00\"]", "quiet_hours"),
        ("approve = [\"relase\"]", "relase"),
        ("alpha = 0.5", "alpha"),
        ("nice = 20", "nice"),
    ] {
        let error = error_of(&with(table));
        assert!(error.to_string().contains(key), "{table}: {error}");
        assert!(error.line >= 22, "{table}: {error}");
    }
}

#[test]
fn an_unknown_key_names_file_line_key_and_the_nearest_valid_one() {
    let error = error_of(&SMALL.replace("rank = 8", "ranks = 8"));
    assert_eq!(error.line, 7);
    assert_eq!(error.key.as_deref(), Some("ranks"));
    assert_eq!(error.nearest.as_deref(), Some("rank"));
    assert!(error.to_string().starts_with("recipes/x.toml:7: "), "{error}");
}

#[test]
fn an_unknown_value_names_the_nearest_one() {
    let error = error_of(&SMALL.replace("\"sft\"", "\"stf\""));
    assert_eq!(error.nearest.as_deref(), Some("sft"), "{error}");
    assert_eq!(error.line, 10);
}

#[test]
fn a_value_out_of_range_names_its_own_line() {
    let error = error_of(&SMALL.replace("beta = 0.2", "beta = -1.0"));
    assert_eq!((error.line, error.key.as_deref()), (14, Some("beta")));
    let error = error_of(&SMALL.replace("[10, 50, 100]", "[50, 10]"));
    assert_eq!(error.line, 20);
    let error = error_of(&SMALL.replace("\"sft\"", "\"sft\"\nbeta = 0.1"));
    assert_eq!(error.line, 11, "{error}");
}

#[test]
fn what_a_dataset_may_be_made_of_is_checked_by_line_and_leaves_no_trace_at_its_default() {
    let with = |table: &str| format!("{SMALL}\n[data]\n{table}");
    let line_of_setting = SMALL.lines().count() + 3;
    let plain = Recipe::parse("a", SMALL).unwrap();
    let spelt_out = "prompts = false\nholdout_newest = 0.0\nreplay = 0.0\nmax_subject_share = 0.01\n\
                     languages = []\n[data.card]";
    assert_eq!(Recipe::parse("b", &with(spelt_out)).unwrap().digest(), plain.digest());
    for (setting, key) in [
        ("max_per_prompt = 0", "max_per_prompt"),
        ("max_per_answer = 0", "max_per_answer"),
        ("max_per_tool = 0", "max_per_tool"),
        ("max_per_model = 0", "max_per_model"),
        ("max_per_subject = 0", "max_per_subject"),
        ("max_label_ratio = 0.5", "max_label_ratio"),
        ("holdout_newest = 1.0", "holdout_newest"),
        ("holdout_newest = nan", "holdout_newest"),
        ("replay = 0.5", "replay"),
        ("replay = 1.0\nlimit = 100", "replay"),
        ("replay = -0.1\nlimit = 100", "replay"),
        ("max_subject_share = 0", "max_subject_share"),
        ("max_subject_share = 1.5", "max_subject_share"),
        ("languages = [\"en\", \"english\"]", "languages"),
        ("max_prompt_tokens = 0", "max_prompt_tokens"),
        ("min_reply_tokens = 0", "min_reply_tokens"),
        ("max_reply_tokens = 0", "max_reply_tokens"),
        ("min_reply_tokens = 9\nmax_reply_tokens = 8", "min_reply_tokens"),
    ] {
        let error = error_of(&with(setting));
        assert_eq!((error.line, error.key.as_deref()), (line_of_setting, Some(key)), "{error}");
    }
}

#[test]
fn what_a_frozen_version_would_pass_over_is_refused() {
    let with = |setting: &str| {
        let source = format!("source = \"support-triage@{}\"", "0".repeat(64));
        format!("{SMALL}\n[data]\n{source}\n{setting}")
    };
    let usual = "holdout = 0.2\nredact = \"standard\"\nmax_subject_share = 0.01\nprompts = false";
    for used in ["", "reward = \"calibrated\"", usual] {
        Recipe::parse("frozen", &with(used)).unwrap();
    }
    let settings = [
        "since = \"30d\"",
        "min_reward = 0.5",
        "redact = \"off\"",
        "dedupe = \"exact\"",
        "holdout = 0.3",
        "min_verified = 64",
        "limit = 100",
        "replay = 0.5",
        "max_per_subject = 5",
        "prompts = true",
        "max_per_prompt = 5",
        "max_per_answer = 5",
        "max_per_tool = 5",
        "max_per_model = 5",
        "max_label_ratio = 2.0",
        "holdout_newest = 0.1",
        "memory_slot = 0.5",
        "max_subject_share = 0.5",
        "exclude = { training = \"no\" }",
        "card = { license = \"mit\" }",
        "languages = [\"en\"]",
        "max_prompt_tokens = 512",
        "min_reply_tokens = 4",
        "max_reply_tokens = 256",
    ];
    for setting in settings {
        let error = error_of(&with(setting));
        let key = setting.split(' ').next();
        assert_eq!((error.line, error.key.as_deref()), (SMALL.lines().count() + 4, key), "{error}");
        assert!(error.what.contains("leave it out"), "{error}");
    }
    let error = error_of(&(with("") + "[data.card]\nlicense = \"mit\"\n"));
    assert_eq!(error.key.as_deref(), Some("card"), "{error}");
}

#[test]
fn what_a_card_states_is_checked_by_line() {
    let with = |table: &str| format!("{SMALL}\n[data.card]\n{table}");
    let stated =
        "license = \"cc-by-4.0\"\nlanguage = [\"en\", \"pt-BR\"]\nconsent = \"terms of use\"";
    let card = Recipe::parse("a", &with(stated)).unwrap().data.card;
    assert_eq!((card.license.as_deref(), card.language.len()), (Some("cc-by-4.0"), 2));
    for (setting, key) in [
        ("license = \"CC BY 4.0\"", "license"),
        ("license = \"\"", "license"),
        ("language = [\"English\"]", "language"),
        ("consent = \" \"", "consent"),
        ("biases = [\"one\\ntwo\"]", "biases"),
    ] {
        let error = error_of(&with(setting));
        let line = SMALL.lines().count() + 3;
        assert_eq!((error.line, error.key.as_deref()), (line, Some(key)), "{error}");
    }
    assert_eq!(error_of(&with("licence = \"mit\"")).nearest.as_deref(), Some("license"));
}

#[test]
fn attempts_at_every_prompt_need_prompts_and_a_reward_that_needs_no_answer() {
    let stage = |rewards: &str| {
        format!(
            "[[train]]\nmethod = \"grpo\"\nsource = \"prompts\"\nrewards = [{rewards}]\n\n[gate]"
        )
    };
    let with = |rewards: &str, data: &str| SMALL.replace("[gate]", &stage(rewards)) + data;
    let data = "\n[data]\nprompts = true\n";
    Recipe::parse("r", &with("\"json_valid\", \"field_f1\"", data)).unwrap();
    let error = error_of(&with("\"json_valid\"", ""));
    assert_eq!(error.key.as_deref(), Some("source"), "{error}");
    assert!(error.to_string().contains("prompts = true"), "{error}");
    let error = error_of(&with("\"exact\", \"field_f1\"", data));
    assert_eq!(error.key.as_deref(), Some("rewards"), "{error}");
    assert!(error.to_string().contains("json_valid"), "{error}");
}

#[test]
fn a_release_without_a_gate_is_refused() {
    let text = SMALL.replace("[gate]\nsuite = \"support-triage\"\n", "");
    assert!(error_of(&text).to_string().contains("needs a [gate]"));
}

#[test]
fn release_rules_that_could_not_work_are_refused_and_defaults_leave_no_trace() {
    let with = |line: &str| SMALL.replace("[release]\n", &format!("[release]\n{line}\n"));
    for (line, wanted) in [
        ("missing = \"worst_case\"", "needs `maturation_s`"),
        ("rollback_on = [\"cost\"]", "needs `cost_cap`"),
        ("max_age_s = 0", "`max_age_s` must be at least 1"),
        ("cost_cap = 0.0", "`cost_cap` is 0"),
    ] {
        let error = error_of(&with(line)).to_string();
        assert!(error.contains(wanted), "{error}");
    }
    let digest = |text: &str| Recipe::parse("r", text).unwrap().digest();
    let defaults =
        "min_step_s = 0\nmaturation_s = 0\nmissing = \"exclude\"\non_small_harm = \"roll_back\"";
    assert_eq!(digest(&with(defaults)), digest(SMALL), "older recipes keep their digests");
}

#[test]
fn canonical_json_sorts_keys_at_every_depth() {
    let value = json!({"b": [{"y": 1, "x": 2}], "a": null});
    assert_eq!(canonical_json(&value), r#"{"a":null,"b":[{"x":2,"y":1}]}"#);
}

#[test]
fn a_suite_round_trips_and_any_change_is_another_suite() {
    let text = concat!(
        r#"{"schema":1,"suite":"triage","tier":"sealed","scorers":["field_f1","field:intent"]}"#,
        "\n",
        r#"{"id":"1","prompt":[{"role":"user","content":"hi"}],"expected":"{}"}"#,
        "\n"
    );
    let suite = Suite::parse(text).unwrap();
    assert_eq!(suite.scorers[1], Scorer::Field("intent".to_owned()));
    assert_eq!(Suite::parse(&suite.to_text()).unwrap(), suite);
    let changed = Suite::parse(&text.replace("hi", "ho")).unwrap();
    assert_ne!(changed.digest(), suite.digest());
}

#[test]
fn a_broken_suite_names_the_line() {
    let text =
        "{\"schema\":1,\"suite\":\"t\",\"tier\":\"dev\",\"scorers\":[\"exact\"]}\n{\"id\":1}";
    assert!(Suite::parse(text).unwrap_err().to_string().starts_with("line 2 "));
    let text = "{\"schema\":1,\"suite\":\"t\",\"tier\":\"dev\",\"scorers\":[\"exakt\"]}";
    assert!(Suite::parse(text).unwrap_err().to_string().contains("use exact"));
}

#[test]
fn a_case_writes_only_what_it_has() {
    let case = Case { id: "1".to_owned(), expected: "a".to_owned(), ..Case::default() };
    // As cases were written when there were no other fields, so that digests stay.
    assert_eq!(canonical_json(&case), r#"{"expected":"a","id":"1","prompt":[],"tags":[]}"#);
    let full = Case {
        tools: vec![json!({"name": "ping"})],
        checks: vec![Check::new(Scorer::Contains, Some("a".to_owned()))],
        weight: 2.5,
        cluster: Some("talk".to_owned()),
        risk: Risk::HighRisk,
        provenance: Some("trace 7".to_owned()),
        added_reason: Some("it failed".to_owned()),
        ..case.clone()
    };
    let again: Case = serde_json::from_str(&canonical_json(&full)).unwrap();
    assert_eq!(again, full);
    assert_ne!(full.digest(), case.digest());
}

#[test]
fn a_weight_that_is_no_weight_is_refused() {
    let text = |weight: &str| {
        let header = r#"{"schema":1,"suite":"s","tier":"dev","scorers":["exact"]}"#;
        format!("{header}\n{{\"id\":\"1\",\"prompt\":[],\"expected\":\"\",\"weight\":{weight}}}")
    };
    assert!(Suite::parse(&text("0.5")).is_ok());
    for weight in ["0", "-1"] {
        assert!(matches!(Suite::parse(&text(weight)), Err(SuiteError::Weight { .. })), "{weight}");
    }
}

#[test]
fn who_stands_beside_the_arms_is_checked_by_line() {
    let head = "schema = 1\ntask = \"t\"\nbase = \"b\"\n[[train]]\nmethod = \"sft\"\n\
                [gate]\nsuite = \"t\"\n[release]\n";
    let parse = |tail: &str| Recipe::parse("r.toml", &format!("{head}{tail}"));
    let good = "fallback = [\"teacher\"]\n[release.observe]\nshare = 0.01\non_cue = 0.2\n\
                [release.escalate]\non = [\"refusal\", \"low_confidence\"]\nmin_log_prob = -4.0\n\
                [release.shadow]\nshare = 0.5\n";
    let release = parse(good).unwrap().release.unwrap();
    assert_eq!(release.observe.unwrap().share(true), 0.2);
    assert_eq!(release.fallback, [crate::Fallback::Teacher]);
    assert!(release.escalate.unwrap().hold_streams);
    for (tail, line, key) in [
        ("[release.observe]\nshare = 1.5\n", 10, "share"),
        ("[release.observe]\nshare = 0.5\non_cue = 0.1\n", 11, "on_cue"),
        ("[release.shadow]\nshare = -1.0\n", 10, "share"),
        ("[release.escalate]\non = []\n", 10, "on"),
        ("[release.escalate]\non = [\"low_confidence\"]\n", 10, "on"),
        ("[release.escalate]\non = [\"refusal\"]\nmin_log_prob = -1.0\n", 10, "on"),
        ("[release.escalate]\non = [\"low_confidence\"]\nmin_log_prob = 1.0\n", 11, "min_log_prob"),
        ("[release.escalate]\non = [\"refusals\"]\n", 10, "refusals"),
    ] {
        let error = parse(tail).unwrap_err();
        assert_eq!((error.line, error.key.as_deref()), (line, Some(key)), "{tail}: {error}");
    }
}
