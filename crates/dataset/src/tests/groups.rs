use std::collections::{BTreeMap, BTreeSet};

use rand::seq::SliceRandom;
use understudy_inference::{Sampling, TokenRecord};
use understudy_manifest::{GroupExample, LoggedAttempt, Redact};
use understudy_message::Content;

use super::*;

/// One id a byte: equal prompts have equal ids.
fn ids(text: &str) -> Vec<u32> {
    text.bytes().map(u32::from).collect()
}

/// What our own engine would have recorded for this step.
pub(super) fn recorded(mut judged: JudgedStep) -> JudgedStep {
    let completion_ids = ids(&judged.step.reply.text());
    judged.step.tokens = Some(TokenRecord {
        prompt_ids: ids(&judged.step.prompt[1].text()),
        sampling_logprobs: vec![-0.1; completion_ids.len()],
        forced: Vec::new(),
        completion_ids,
        sampling: Sampling { temperature: 0.7, ..Sampling::greedy(64) },
        logprobs_exact: true,
        base_digest: "base".to_owned(),
        tokenizer_digest: "tokenizer".to_owned(),
        template_digest: "template".to_owned(),
    });
    judged
}

fn sampled(session: &str, name: &str, prompt: &str, reply: &str) -> JudgedStep {
    recorded(step(session, name, prompt, reply))
}

fn tokens(judged: &mut JudgedStep) -> &mut TokenRecord {
    judged.step.tokens.as_mut().unwrap()
}

/// A group of a bad and a good reply.
fn bad_and_good() -> [JudgedStep; 2] {
    [
        with(sampled("s", "a", "p", "bad"), Signal::Regenerate { kept: None }),
        later(with(sampled("s", "b", "p", "good"), Signal::Accept), 1),
    ]
}

/// Beside a row to imitate, so that a refused group does not leave an empty version.
fn built(steps: impl IntoIterator<Item = JudgedStep>) -> Draft {
    built_from(&all_train(), &[], steps)
}

fn built_from(
    data: &Data,
    suites: &[SuiteFingerprints],
    steps: impl IntoIterator<Item = JudgedStep>,
) -> Draft {
    let other =
        with(step("other", "other", "other prompt", "the other reply"), edit("the edited reply"));
    try_build(data, suites, steps.into_iter().chain([other])).unwrap()
}

fn groups(draft: &Draft) -> Vec<GroupExample> {
    let (_root, frozen) = freeze(draft);
    assert_eq!(frozen.groups(Split::Dev).unwrap(), []);
    frozen.groups(Split::Train).unwrap()
}

fn rewards(group: &GroupExample) -> Vec<Option<f64>> {
    group.attempts.iter().map(|attempt| attempt.reward).collect()
}

fn has_groups(draft: &Draft) -> bool {
    draft.manifest().files.iter().any(|file| file.path.starts_with("groups."))
}

#[test]
fn a_regenerate_makes_a_group_beside_the_pair() {
    let draft = built(bad_and_good());
    let attempt = |reply: &str, reward| LoggedAttempt {
        completion_ids: ids(reply),
        sampling_logprobs: vec![-0.1; reply.len()],
        truncated: false,
        reward: Some(reward),
    };
    let [group] = &groups(&draft)[..] else { panic!("one group") };
    assert_eq!(group.prompt_ids, ids("p"));
    assert_eq!(group.attempts, [attempt("bad", 0.0), attempt("good", 1.0)]);
    assert_eq!(group.origin.trajectory, TrajectoryId::derived("s").to_string());
    assert_eq!(group.origin.steps, ["a", "b"].map(|name| StepId::derived(name).to_string()));
    assert_eq!(group.origin.because, ["accept", "regenerate"]);
    assert_eq!(draft.manifest().rows("pairs.train.jsonl"), 2);
    assert_eq!((count(&draft, "group", "groups"), count(&draft, "group", "attempts")), (1, 2));
    for pair in draft.manifest().stages.windows(2) {
        assert_eq!(pair[0].rows_out, pair[1].rows_in, "{} to {}", pair[0].stage, pair[1].stage);
    }
    let (_root, frozen) = freeze(&draft);
    let card = std::fs::read_to_string(frozen.dir().join("README.md")).unwrap();
    assert!(card.contains("- config_name: groups") && card.contains("attempts 2, groups 1"));
}

#[test]
fn several_arms_make_a_group_with_equal_replies_and_silence_kept() {
    let steps = [
        with(sampled("s", "a", "p", "same"), Signal::Rating { value: 0.25 }),
        later(with(sampled("t", "b", "p", "same"), Signal::Accept), 1),
        later(sampled("u", "c", "p", "unjudged"), 2),
        later(with(sampled("v", "d", "p", "left"), Signal::Abandon), 3),
        with(sampled("w", "e", "another", "alone"), Signal::Accept),
        with(step("x", "f", "p", "of a teacher"), Signal::Accept),
    ];
    let [group] = &groups(&built(steps))[..] else { panic!("one group") };
    assert_eq!(rewards(group), [Some(0.25), Some(1.0), None, Some(0.0)]);
    assert_eq!(group.attempts[0].completion_ids, group.attempts[1].completion_ids);
    assert_eq!(group.origin.because, ["abandon", "accept", "rating"]);
}

#[test]
fn a_cut_off_and_a_blank_reply_are_attempts_though_no_examples() {
    let [mut cut, good] = bad_and_good();
    cut.step.finish_reason = FinishReason::Length;
    let blank = later(with(sampled("s", "c", "p", " "), Signal::Abandon), 2);
    let draft = built([cut, good, blank]);
    let [group] = &groups(&draft)[..] else { panic!("one group") };
    let truncated: Vec<bool> = group.attempts.iter().map(|attempt| attempt.truncated).collect();
    assert_eq!(truncated, [true, false, false]);
    assert_eq!((count(&draft, "filter", "cut_off"), count(&draft, "filter", "empty")), (1, 1));
    // Neither is preferred to, nor labelled: only the other step's pair and one label.
    assert_eq!(draft.manifest().rows("pairs.train.jsonl"), 1);
    assert_eq!(draft.manifest().rows("labels.train.jsonl"), 1);
}

#[test]
fn a_reply_that_was_kept_after_all_is_not_punished_for_the_comparison() {
    let kept = Signal::Regenerate { kept: Some("chatcmpl-a".to_owned()) };
    let first = with(with(sampled("s", "a", "p", "first"), Signal::Rating { value: 1.0 }), kept);
    let second = later(with(sampled("s", "b", "p", "second"), Signal::Abandon), 1);
    assert_eq!(rewards(&groups(&built([first, second]))[0]), [Some(1.0), Some(0.0)]);
}

#[test]
fn a_reply_that_was_kept_in_place_of_another_is_as_good_as_accepted() {
    let kept = Signal::Regenerate { kept: Some("chatcmpl-b".to_owned()) };
    let first = || with(sampled("s", "a", "p", "first"), kept.clone());
    let second = later(sampled("s", "b", "p", "second"), 1);
    let draft = built([first(), second.clone()]);
    assert_eq!(rewards(&groups(&draft)[0]), [Some(0.0), Some(1.0)]);
    // One pair of this regenerate and one of the other row's edit.
    assert_eq!(draft.manifest().rows("pairs.train.jsonl"), 2);

    let flagged = with(second.clone(), Signal::Flag { reason: "rude".to_owned() });
    assert_eq!(count(&built([first(), flagged]), "group", "no_difference"), 1);
    let third = later(sampled("s", "c", "p", "third"), 2);
    let group = groups(&built([first(), second, third])).remove(0);
    assert_eq!(rewards(&group), [Some(0.0), Some(1.0), None], "of the others nothing is known");
}

#[test]
fn log_probabilities_are_all_exact_or_left_out() {
    type Spoil = fn(&mut TokenRecord);
    let spoilt: [Spoil; 4] = [
        |tokens| tokens.logprobs_exact = false,
        |tokens| tokens.sampling_logprobs[0] = f32::NAN,
        |tokens| tokens.sampling_logprobs[0] = f32::NEG_INFINITY,
        |tokens| tokens.sampling_logprobs.truncate(1),
    ];
    for spoil in spoilt {
        let [mut bad, good] = bad_and_good();
        spoil(tokens(&mut bad));
        let draft = built([bad, good]);
        let group = &groups(&draft)[0];
        assert!(group.attempts[0].sampling_logprobs.is_empty());
        assert_eq!(group.attempts[1].sampling_logprobs, [-0.1; 4]);
        assert_eq!(count(&draft, "group", "attempts_without_logprobs"), 1);
    }
}

#[test]
fn attempts_of_another_model_or_temperature_are_left_out() {
    type Spoil = fn(&mut TokenRecord);
    let odd: [(&str, Spoil); 4] = [
        ("other_model", |tokens| tokens.base_digest = "another".to_owned()),
        ("other_model", |tokens| tokens.tokenizer_digest = "another".to_owned()),
        ("other_model", |tokens| tokens.template_digest = "another".to_owned()),
        ("other_temperature", |tokens| tokens.sampling.temperature = 1.0),
    ];
    for (reason, spoil) in odd {
        // The newest, so that only the majority of rewards decides.
        let mut odd = later(with(sampled("s", "c", "p", "odd"), Signal::Accept), 2);
        spoil(tokens(&mut odd));
        let draft = built(bad_and_good().into_iter().chain([odd.clone()]));
        assert_eq!(count(&draft, "group", reason), 1, "{reason}");
        assert_eq!(groups(&draft)[0].attempts.len(), 2, "{reason}");

        let [bad, _] = bad_and_good();
        let draft = built([bad, odd]);
        assert_eq!(count(&draft, "group", "too_few_attempts"), 1, "{reason}");
        assert!(!has_groups(&draft));
    }
}

#[test]
fn groups_with_nothing_to_compare_are_dropped_by_reason() {
    let accepted = |name: &str| with(sampled(name, name, "p", name), Signal::Accept);
    let flagged = with(accepted("c"), Signal::Flag { reason: "rude".to_owned() });
    let refused = [
        ("too_few_rewards", vec![accepted("a"), sampled("b", "b", "p", "b")]),
        ("no_difference", vec![accepted("a"), accepted("b"), sampled("c", "c", "p", "c")]),
        ("review", vec![accepted("a"), flagged]),
    ];
    for (reason, steps) in refused {
        let draft = built(steps);
        assert_eq!(count(&draft, "group", reason), 1, "{reason}");
        assert_eq!(count(&draft, "group", "groups"), 0, "{reason}");
        assert!(!has_groups(&draft), "{reason}");
        assert_eq!(groups(&draft), [], "{reason}");
    }
}

#[test]
fn steps_that_are_no_samples_are_no_attempts() {
    type Spoil = fn(&mut Step);
    let spoilt: [Spoil; 7] = [
        |step| step.error = Some("timeout".to_owned()),
        |step| step.finish_reason = FinishReason::Aborted,
        |step| step.tokens = None,
        |step| step.tokens.as_mut().unwrap().completion_ids.clear(),
        |step| step.prompt.clear(),
        |step| step.task = "elsewhere".parse().unwrap(),
        |step| {
            let image = r#"[{"type":"image_url","image_url":{"url":"data:"}}]"#;
            step.prompt[1].content = serde_json::from_str::<Content>(image).unwrap();
        },
    ];
    for (nth, spoil) in spoilt.into_iter().enumerate() {
        let [mut bad, good] = bad_and_good();
        spoil(&mut bad.step);
        let draft = built([bad, good]);
        assert!(!has_groups(&draft), "{nth}");
        assert!(draft.manifest().stages.iter().all(|s| s.stage != "group"), "{nth}");
    }
}

#[test]
fn the_same_step_twice_is_no_group() {
    let [bad, good] = bad_and_good();
    let draft = built([bad.clone(), bad]);
    assert!(!has_groups(&draft));
    let draft = built([good.clone(), good]);
    assert!(draft.manifest().stages.iter().all(|s| s.stage != "group"));
}

#[test]
fn ids_of_a_text_that_would_be_masked_are_never_written() {
    let ask = |prompt: &str, reply: &str| {
        let bad = with(sampled("s", "a", prompt, "bad"), Signal::Abandon);
        [bad, with(sampled("t", "b", prompt, reply), Signal::Accept)]
    };
    let open = Data { redact: Redact::Off, ..all_train() };
    let private = [
        ("group_prompt_masked", ask("I am jo@x.example", "good")),
        ("group_reply_masked", ask("p", "write to jo@x.example")),
    ];
    for (reason, steps) in private {
        let draft = built(steps.clone());
        assert_eq!(count(&draft, "redact", reason), 1);
        assert!(!has_groups(&draft));
        assert_eq!(groups(&built_from(&open, &[], steps)).len(), 1, "{reason}");
    }
    // Only one of the spellings that share the ids holds something.
    for nth in 0..2 {
        let mut steps = bad_and_good();
        steps[nth].step.prompt[0] = Message::system("Triage for jo@x.example.");
        let draft = built(steps);
        assert_eq!(count(&draft, "redact", "group_prompt_masked"), 1, "{nth}");
        assert!(!has_groups(&draft), "{nth}");
    }
}

#[test]
fn masking_of_other_rows_is_counted_as_if_there_were_no_groups() {
    let mut steps = bad_and_good().to_vec();
    steps.push(with(step("m", "m", "I am jo@x.example", "hello"), Signal::Accept));
    let with_groups = built(steps.clone());
    for judged in &mut steps {
        judged.step.tokens = None;
    }
    assert_eq!(with_groups.manifest().redacted, built(steps).manifest().redacted);
}

#[test]
fn a_prompt_that_repeats_a_held_out_case_is_no_group() {
    let held_out = "I was charged twice for my monthly plan, please refund it today";
    let bad = with(sampled("s", "a", held_out, "bad"), Signal::Abandon);
    let good = with(sampled("t", "b", held_out, "good"), Signal::Accept);
    let suites = [suite(&[held_out])];
    let draft = built_from(&all_train(), &suites, [bad.clone(), good]);
    // The example, the two labels, and the group.
    assert_eq!(count(&draft, "decontaminate", "exact"), 4);
    assert!(!has_groups(&draft));

    // Another spelling with the same ids does not hide it.
    let mut respelled = later(with(sampled("t", "b", "unrelated", "good"), Signal::Accept), 1);
    tokens(&mut respelled).prompt_ids = ids(held_out);
    let draft = built_from(&all_train(), &suites, [bad, respelled]);
    assert_eq!(count(&draft, "decontaminate", "exact"), 2);
    assert!(!has_groups(&draft));
}

#[test]
fn a_limit_counts_a_group_as_its_newest_judged_reply() {
    let asked = |nth: i64| {
        let (bad, good) = (format!("{nth} a"), format!("{nth} b"));
        let prompt = nth.to_string();
        let bad = with(sampled(&bad, &bad, &prompt, "bad"), Signal::Abandon);
        let good = with(sampled(&good, &good, &prompt, "good"), Signal::Accept);
        [later(bad, 10 * nth), later(good, 10 * nth + 1)]
    };
    let data = Data { limit: Some(3), ..all_train() };
    let draft = try_build(&data, &[], (0..4).flat_map(asked)).unwrap();
    let prompts: Vec<_> = groups(&draft).into_iter().map(|group| group.prompt_ids).collect();
    assert_eq!(prompts, [ids("2"), ids("3")]);
}

#[test]
fn groups_alone_are_something_to_learn_from() {
    let rated =
        |name: &str, value: f64| with(sampled(name, name, "p", name), Signal::Rating { value });
    for holdout in [0.0, 0.9] {
        let data = Data { holdout, min_verified: 1, ..Data::default() };
        let draft = try_build(&data, &[], [rated("a", 0.25), rated("b", 0.75)]).unwrap();
        assert_eq!(draft.manifest().rows("sft.train.jsonl"), 0);
        assert_eq!(groups(&draft).len(), 1);
    }
}

/// Traffic of which our own engine answered most, many prompts more than once.
fn own_traffic(seed: u64) -> Vec<JudgedStep> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut steps = traffic(seed, 150);
    for judged in &mut steps {
        let known = ["where is my parcel", "refund please", "i lost it", "cancel my plan"];
        if rng.random_bool(0.2) {
            let nth = rng.random_range(0..40);
            judged.step.prompt[1] = Message::user(format!("{} {nth}", known[nth % 4]));
        }
        if rng.random_bool(0.1) {
            judged.step.finish_reason = FinishReason::Length;
        }
        *judged = if rng.random_bool(0.9) { recorded(judged.clone()) } else { continue };
        if rng.random_bool(0.1) {
            tokens(judged).sampling.temperature = 1.0;
        }
    }
    steps
}

#[test]
fn groups_are_the_same_in_any_order_of_arrival() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let data = Data { limit: Some(120), ..Data::default() };
    let mut found = 0;
    for seed in 0..10 {
        let mut steps = own_traffic(seed);
        let expected = try_build(&data, &[], steps.clone()).unwrap();
        assert!(count(&expected, "group", "groups") > 3);
        found += expected.manifest().rows("groups.train.jsonl");
        steps.shuffle(&mut rng);
        assert_eq!(try_build(&data, &[], steps).unwrap(), expected);
    }
    assert!(found > 20, "{found}");
}

#[test]
fn a_group_is_on_one_side_with_everything_its_attempts_are_tied_to() {
    let mut held_out = 0;
    for seed in 0..10 {
        let mut steps = own_traffic(seed);
        for judged in &mut steps {
            judged.step.subject = None;
        }
        let trajectories: BTreeMap<String, String> = steps
            .iter()
            .map(|judged| (judged.step.id.to_string(), judged.step.trajectory.to_string()))
            .collect();
        let draft = try_build(&Data { holdout: 0.4, ..Data::default() }, &[], steps).unwrap();
        let mut sides: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for file in &draft.manifest().files {
            let split = file.path.split('.').nth(1).unwrap();
            for line in draft.file(&file.path).unwrap().unwrap().lines() {
                let row: serde_json::Value = serde_json::from_str(line).unwrap();
                for id in row["origin"]["steps"].as_array().unwrap() {
                    let trajectory = &trajectories[id.as_str().unwrap()];
                    sides.entry(trajectory).or_default().insert(split);
                }
            }
        }
        assert!(sides.values().all(|sides| sides.len() == 1), "{sides:?}");
        held_out += draft.manifest().rows("groups.dev.jsonl");
    }
    assert!(held_out > 10, "{held_out}");
}

#[test]
fn groups_take_nothing_from_other_rows_and_without_one_the_version_is_what_it_was() {
    for seed in 0..5 {
        let steps = own_traffic(seed);
        let mut foreign = steps.clone();
        for judged in &mut foreign {
            judged.step.tokens = None;
        }
        let (own, foreign) =
            [steps, foreign].map(|steps| try_build(&all_train(), &[], steps).unwrap()).into();
        assert!(has_groups(&own) && !has_groups(&foreign));
        for file in &foreign.manifest().files {
            assert_eq!(
                own.file(&file.path).unwrap(),
                foreign.file(&file.path).unwrap(),
                "{}",
                file.path
            );
        }
    }
    // Our own engine answered, but no prompt came twice.
    let alone = || with(sampled("s", "a", "p", "good"), Signal::Accept);
    let mut foreign = alone();
    foreign.step.tokens = None;
    assert_eq!(built([alone()]).version(), built([foreign]).version());
}
