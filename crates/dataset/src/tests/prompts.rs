//! Rows of what was asked, whatever became of the reply.

use understudy_manifest::PromptExample;

use super::*;

fn with_prompts() -> Data {
    Data { prompts: true, ..all_train() }
}

fn asked(draft: &Draft) -> Vec<PromptExample> {
    let (_root, frozen) = freeze(draft);
    let mut all = frozen.prompts(Split::Train).unwrap();
    all.extend(frozen.prompts(Split::Dev).unwrap());
    all
}

fn last_words(examples: &[PromptExample]) -> Vec<String> {
    examples.iter().map(|example| example.prompt.last().unwrap().text()).collect()
}

#[test]
fn every_prompt_is_a_row_once_whatever_was_said_of_its_reply() {
    let mut cut = step("c", "cut", "cut off", "half an");
    cut.step.finish_reason = FinishReason::Length;
    let torn = with(step("t", "torn", "torn", "x"), Signal::Accept);
    let steps = [
        with(step("a", "good", "liked", "answer"), Signal::Accept),
        later(with(step("b", "bad", "left alone", "answer"), Signal::Abandon), 1),
        later(step("s", "silent", "nobody spoke", "answer"), 2),
        later(step("z", "again", "liked", "another answer"), 3),
        later(with(torn, Signal::Flag { reason: "rude".to_owned() }), 4),
        later(cut, 5),
    ];
    let draft = try_build(&with_prompts(), &[], steps).unwrap();
    let rows = asked(&draft);
    assert_eq!(last_words(&rows), ["liked", "left alone", "nobody spoke"]);
    assert_eq!(rows[2].origin.steps, [StepId::derived("silent").to_string()]);
    assert_eq!(rows[2].origin.because, ["asked"]);
    assert_eq!(count(&draft, "prompts", "prompts"), 3);
    assert_eq!(count(&draft, "prompts", "asked_before"), 1);
    assert_eq!(count(&draft, "prompts", "review"), 1);
    let (_root, frozen) = freeze(&draft);
    let card = std::fs::read_to_string(frozen.dir().join("README.md")).unwrap();
    assert!(card.contains("- config_name: prompts"), "{card}");
    assert!(card.contains("| prompts | 3 | 6 | asked_before 1, prompts 3, review 1 |"), "{card}");
}

/// A version that nobody wants prompts in is the one it always was, and beside them the other rows
/// are what they are without.
#[test]
fn prompts_change_no_other_row() {
    let data = Data { limit: Some(90), max_per_subject: Some(6), ..Data::default() };
    let steps = traffic(5, 200);
    let without = try_build(&data, &[], steps.clone()).unwrap();
    let beside = try_build(&Data { prompts: true, ..data }, &[], steps).unwrap();
    let rows = |draft: &Draft, kind: &str| {
        let file = |split: &str| draft.file(&format!("{kind}.{split}.jsonl")).unwrap();
        let both = [file("train"), file("dev")].into_iter().flatten().collect::<String>();
        let mut lines: Vec<String> = both.lines().map(without_pseudonyms).collect();
        lines.sort();
        lines
    };
    for kind in ["sft", "pairs", "labels"] {
        assert_eq!(rows(&without, kind), rows(&beside, kind), "{kind}");
    }
    assert_eq!(rows(&without, "prompts").len(), 0);
    assert!(rows(&beside, "prompts").len() > 50);
}

/// What was asked before in a session is masked first, so later numbers may be others.
fn without_pseudonyms(line: &str) -> String {
    understudy_redact::without_numbers(line).into_owned()
}

#[test]
fn prompts_are_masked_deduplicated_and_kept_from_suites() {
    let long = "my parcel has not come and nobody answers the telephone, what am I to do";
    let steps = [
        step("a", "a", &format!("{long}? a@x.example"), "x"),
        later(step("b", "b", &format!("{long}!! b@x.example"), "y"), 1),
        later(step("c", "c", HELD_OUT, "z"), 2),
        later(step("d", "d", "something else entirely is asked here", "z"), 3),
    ];
    let data = Data { dedupe: Dedupe::Near, ..with_prompts() };
    let draft = try_build(&data, &[suite(&[HELD_OUT])], steps).unwrap();
    let rows = last_words(&asked(&draft));
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert!(rows[0].contains("<EMAIL_1>") && !rows[0].contains("x.example"), "{rows:?}");
    assert_eq!(count(&draft, "decontaminate", "exact"), 1);
    assert_eq!(count(&draft, "dedupe", "near") + count(&draft, "dedupe", "prompts"), 1);
}

const HELD_OUT: &str = "what is the way to have a bill of last month sent again by mail";

#[test]
fn prompts_alone_are_a_version_where_no_outcome_is_asked_for() {
    let steps = [step("a", "a", "one", "x"), step("b", "b", "two", "y")];
    let draft = try_build(&with_prompts(), &[], steps.clone()).unwrap();
    assert_eq!(draft.manifest().rows("prompts.train.jsonl"), 2);
    let strict = Data { min_verified: 1, ..with_prompts() };
    let error = try_build(&strict, &[], steps).unwrap_err();
    assert!(matches!(error, DatasetError::NotEnough { found: 0, .. }), "{error}");
}

#[test]
fn a_prompt_is_followed_to_its_line_and_the_one_asked_before_is_told() {
    let explain = |name: &str| {
        let (task, data, now) = (task(), with_prompts(), at(86_400_000));
        let request =
            Request { task: &task, data: &data, seed: 17, sources: &[], suites: &[], now };
        let builder = crate::Builder::new(request, &std::env::temp_dir()).unwrap();
        let mut builder = builder.following(name);
        let steps = [step("a", "a", "one", "x"), later(step("b", "b", "one", "y"), 1)];
        for trajectory in trajectories(steps) {
            builder.add(trajectory).unwrap();
        }
        let verdicts = builder.explain().unwrap();
        verdicts
            .into_iter()
            .map(|said| format!("{}: {}", said.stage, said.what))
            .collect::<Vec<_>>()
    };
    let first = explain("chatcmpl-a");
    assert!(first.contains(&"prompts: taken".to_owned()), "{first:?}");
    assert!(first.contains(&"split: line 1 of prompts.train.jsonl".to_owned()), "{first:?}");
    let no_row = "join: nothing was said; no row of its reply: no_outcome".to_owned();
    assert!(first.contains(&no_row), "{first:?}");
    let second = explain("chatcmpl-b");
    assert_eq!(second.last().unwrap(), "prompts: left out: asked_before");
}
