use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use understudy_manifest::{Redact, canonical_json};
use understudy_redact::{Policy, Redactor, without_numbers};

use crate::{
    decontaminate::assert_clean, ledger::Ledger, rewarding::Rewarding, rules::Rules,
    selection::Selection, spill::Spill, trail::Trail, written::Writer,
};

use super::*;

/// Everything that must be on one side only, for one line of a file.
fn ties(line: &str, steps: &BTreeMap<String, Step>) -> Vec<String> {
    let row: serde_json::Value = serde_json::from_str(line).unwrap();
    let prompt = canonical_json(&row["prompt"]);
    let mut ties = vec![format!("prompt {}", without_numbers(&prompt))];
    for id in row["origin"]["steps"].as_array().unwrap() {
        let step = &steps[id.as_str().unwrap()];
        ties.push(format!("trajectory {}", step.trajectory));
        ties.extend(step.session.iter().map(|session| format!("session {session}")));
        ties.extend(step.subject.iter().map(|subject| format!("subject {subject}")));
    }
    ties
}

#[test]
fn no_trajectory_session_subject_or_prompt_is_on_both_sides() {
    for seed in 0..10 {
        let steps = traffic(seed, 300);
        let by_id: BTreeMap<String, Step> =
            steps.iter().map(|judged| (judged.step.id.to_string(), judged.step.clone())).collect();
        let draft = try_build(&Data::default(), &[], steps).unwrap();
        let mut sides: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
        let mut rows = BTreeMap::<&str, usize>::new();
        for file in &draft.manifest().files {
            let split = file.path.split('.').nth(1).unwrap();
            let text = draft.file(&file.path).unwrap().unwrap();
            let lines: Vec<&str> = text.lines().collect();
            *rows.entry(split).or_default() += lines.len();
            for tie in lines.iter().flat_map(|line| ties(line, &by_id)) {
                sides.entry(tie).or_default().insert(split);
            }
        }
        let both: Vec<_> = sides.iter().filter(|(_, sides)| sides.len() > 1).collect();
        assert!(both.is_empty(), "{both:?}");
        assert!(rows["dev"] > 20 && rows["train"] > rows["dev"], "{rows:?}");
    }
}

#[test]
fn one_subject_is_one_component_and_all_of_it_trains() {
    let steps = (0..40).map(|nth| {
        let name = nth.to_string();
        let mut judged = with(step(&name, &name, &name, "reply"), Signal::Accept);
        judged.step.subject = Some("the only one".to_owned());
        judged
    });
    for holdout in [0.2, 0.9] {
        let data = Data { holdout, ..Data::default() };
        let draft = try_build(&data, &[], steps.clone()).unwrap();
        let rows = |path: &str| draft.manifest().rows(path);
        let (train, dev) = (rows("sft.train.jsonl"), rows("sft.dev.jsonl"));
        assert_eq!((train, dev), (40, 0));
        assert_eq!(count(&draft, "split", "components"), 1);
    }
}

const HELD_OUT: [&str; 3] = [
    "I was charged twice for my monthly plan, please refund one of the payments today",
    "Where is my parcel? My mail is jo@x.example.",
    "reset my password",
];

fn asked(nth: usize, prompt: &str) -> JudgedStep {
    let name = format!("planted {nth}");
    with(step(&name, &name, prompt, "the bad one"), edit("the good one"))
}

/// How many of these prompts survive a build against the held-out suite.
fn surviving(prompts: &[String], data: &Data) -> (u64, Draft) {
    let planted = prompts.iter().enumerate().map(|(nth, prompt)| asked(nth, prompt));
    let clean =
        with(step("clean", "clean", "an unrelated question", "the bad one"), edit("the fine one"));
    let draft = try_build(data, &[suite(&HELD_OUT)], planted.chain([clean])).unwrap();
    (draft.manifest().rows("sft.train.jsonl") - 1, draft)
}

#[test]
fn exact_and_respelled_copies_of_held_out_cases_are_dropped() {
    let mut copies: Vec<String> = HELD_OUT.iter().map(|&text| text.to_owned()).collect();
    copies.extend(HELD_OUT.iter().map(|text| text.to_uppercase()));
    copies.extend(HELD_OUT.iter().map(|text| format!("  {} !", text.replace(' ', ",  "))));
    copies[4] = HELD_OUT[1].replace("Where is", "WHERE, is");
    copies[7] = HELD_OUT[1].replace('?', "").replace(' ', "  ");
    for redact in [Redact::Standard, Redact::Off] {
        let (left, draft) = surviving(&copies, &Data { redact, ..all_train() });
        assert_eq!(left, 0, "{redact:?}");
        assert_eq!(count(&draft, "decontaminate", "exact"), 18);
        assert_eq!(draft.manifest().decontaminated_against, [suite(&HELD_OUT).suite()]);
    }
}

#[test]
fn copies_with_one_word_changed_added_or_lost_are_dropped() {
    let long: Vec<&str> = HELD_OUT[0].split(' ').collect();
    let mut copies = Vec::new();
    for nth in 0..long.len() {
        let changed = |word: Option<&str>| {
            let mut words = long.clone();
            match word {
                Some(word) => words[nth] = word,
                None => drop(words.remove(nth)),
            }
            words.join(" ")
        };
        let mut more = long.clone();
        more.insert(nth, "kindly");
        copies.extend([changed(Some("other")), changed(None), more.join(" ")]);
    }
    let (left, draft) = surviving(&copies, &all_train());
    assert_eq!(left, 0);
    assert_eq!(count(&draft, "decontaminate", "one_word_apart"), 2 * copies.len() as u64);
}

#[test]
fn long_copies_with_a_few_words_changed_are_dropped() {
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let long = sentence(&mut rng, 120);
    let held_out = [suite(&[&long])];
    let mut words: Vec<&str> = long.split(' ').collect();
    for nth in [10, 50, 90] {
        words[nth] = "different";
    }
    let clean = asked(1, "an unrelated question");
    let draft = try_build(&all_train(), &held_out, [asked(0, &words.join(" ")), clean]).unwrap();
    assert_eq!(count(&draft, "decontaminate", "near"), 2);
}

#[test]
fn a_held_out_case_in_an_earlier_turn_is_found_and_other_prompts_stay() {
    let mut turns = asked(0, HELD_OUT[2]);
    turns.step.prompt.extend([Message::assistant("done"), Message::user("thanks")]);
    let others = ["reset my router", "thanks", "I was charged twice", "where is my order"];
    let others = others.iter().enumerate().map(|(nth, prompt)| asked(nth + 1, prompt));
    let draft = try_build(&all_train(), &[suite(&HELD_OUT)], [turns].into_iter().chain(others));
    let draft = draft.unwrap();
    assert_eq!(draft.manifest().rows("sft.train.jsonl"), 4);
    assert_eq!(count(&draft, "decontaminate", "exact"), 2);
}

#[test]
fn masked_rows_match_cases_whatever_their_pseudonyms_are_numbered() {
    let mut first = asked(0, "My mail is first@x.example, and my question will follow.");
    let mut second = later(asked(1, HELD_OUT[1]), 1);
    for judged in [&mut first, &mut second] {
        judged.step.trajectory = TrajectoryId::derived("one");
    }
    let draft = try_build(&all_train(), &[suite(&HELD_OUT)], [first, second]).unwrap();
    assert_eq!(count(&draft, "decontaminate", "exact"), 2);
    let masked = "Where is my parcel? My mail is <EMAIL_7>.";
    assert_eq!(surviving(&[masked.to_owned()], &all_train()).0, 0);
}

/// The stage before is bypassed, as a defect would.
#[test]
fn a_held_out_case_that_is_still_there_in_the_end_stops_the_build() {
    let written = |suites: &[SuiteFingerprints]| {
        let spill = Arc::new(Spill::create(&std::env::temp_dir()).unwrap());
        let (policy, data) = (understudy_trajectory::RewardPolicy::DefaultV1, Data::default());
        let mut selection = Selection::new(&task(), None, &[].into(), policy, Arc::clone(&spill));
        let (mut ledger, mut trail) = (Ledger::default(), Trail::default());
        let filter = crate::filter::Filter { data: &data, tokens: None };
        selection.add(asked(0, HELD_OUT[0]), filter, &mut trail).unwrap();
        let selected = selection.finish(&mut ledger, &mut trail);
        let candidate = selected.candidate(0).unwrap();
        let rewarding = Rewarding::of(policy, &selected);
        let masker = Redactor::new(Policy::Off).masker();
        let made = Rules::new(&selected, &rewarding, 0.9).apply(0, &candidate, &masker).unwrap();
        Writer { spill, suites, seed: 1 }.write(&made.rows, None).unwrap()
    };
    let clean = [suite(&["something else"])];
    assert!(assert_clean(&written(&clean), &clean).is_ok());
    let held_out = [suite(&HELD_OUT)];
    let error = assert_clean(&written(&held_out), &held_out).unwrap_err();
    assert!(matches!(error, DatasetError::Leak { rows: 2, .. }), "{error}");
}

#[test]
fn prompts_that_differ_in_a_third_of_their_words_are_kept() {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let held_out: Vec<String> = (0..200).map(|_| sentence(&mut rng, 12)).collect();
    let cases: Vec<&str> = held_out.iter().map(String::as_str).collect();
    let changed = |(nth, text): (usize, &String)| {
        let mut words: Vec<&str> = text.split(' ').collect();
        (words[2], words[5], words[7], words[9]) = ("one", "two", "three", "four");
        asked(nth, &words.join(" "))
    };
    let draft = try_build(&all_train(), &[suite(&cases)], held_out.iter().enumerate().map(changed));
    assert_eq!(draft.unwrap().manifest().rows("sft.train.jsonl"), 200);
}
