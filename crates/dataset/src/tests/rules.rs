use understudy_manifest::Redact;
use understudy_message::{Content, ToolCall};

use crate::{Builder, Conflict};

use super::*;

/// What a single split teaches, as text: (imitate), (prefer, over), (label, reply).
#[derive(Debug, Default, PartialEq)]
struct Taught {
    sft: Vec<String>,
    pairs: Vec<(String, String)>,
    labels: Vec<(bool, String)>,
}

fn taught(draft: &Draft) -> Taught {
    let (_root, frozen) = freeze(draft);
    let text = |messages: &[Message]| messages[0].text();
    Taught {
        sft: frozen.sft(Split::Train).unwrap().iter().map(|row| text(&row.completion)).collect(),
        pairs: frozen
            .pairs(Split::Train)
            .unwrap()
            .iter()
            .map(|row| (text(&row.chosen), text(&row.rejected)))
            .collect(),
        labels: frozen
            .labels(Split::Train)
            .unwrap()
            .iter()
            .map(|row| (row.label, text(&row.completion)))
            .collect(),
    }
}

const OTHER: &str = "the reply to something else";
const EDITED: &str = "the edited reply to something else";

fn built(steps: impl IntoIterator<Item = JudgedStep>) -> Draft {
    // A row to imitate, so that a test about labels or refusals is not refused as empty.
    let other = with(step("other", "other", "other prompt", OTHER), edit(EDITED));
    try_build(&all_train(), &[], steps.into_iter().chain([later(other, 10_000)])).unwrap()
}

/// What the steps of a test teach, without the row every test has.
fn taught_by(steps: impl IntoIterator<Item = JudgedStep>) -> Taught {
    let mut taught = taught(&built(steps));
    assert_eq!(taught.sft.pop().as_deref(), Some(EDITED));
    assert_eq!(taught.pairs.pop(), Some(pair(EDITED, OTHER)));
    taught
}

fn pair(chosen: &str, rejected: &str) -> (String, String) {
    (chosen.to_owned(), rejected.to_owned())
}

#[test]
fn an_accepted_reply_is_imitated_and_labelled() {
    let taught = taught_by([with(step("s", "a", "p", "good"), Signal::Accept)]);
    assert_eq!(taught.sft, ["good"]);
    assert_eq!(taught.labels, [(true, "good".to_owned())]);
    assert_eq!(taught.pairs, []);
}

#[test]
fn an_edit_is_imitated_and_preferred_to_the_reply_by_how_far_it_goes() {
    let ten = "one two three four five six seven eight nine ten";
    // Words of ten that are changed, and the margin of the pair.
    for (changed, margin) in [(1, 0.1 / 0.3), (2, 0.2 / 0.3), (3, 1.0), (6, 1.0)] {
        let mut words: Vec<&str> = ten.split(' ').collect();
        words[..changed].fill("other");
        let text = words.join(" ");
        let draft = built([with(step("s", "a", "p", ten), edit(&text))]);
        let (_root, frozen) = freeze(&draft);
        let row = &frozen.pairs(Split::Train).unwrap()[0];
        assert_eq!((row.chosen[0].text(), row.rejected[0].text()), (text, ten.to_owned()));
        assert!((row.margin.unwrap() - margin).abs() < 1e-9, "{changed}: {:?}", row.margin);
    }
    let taught = taught_by([with(step("s", "a", "p", "the bad one"), edit("the good one"))]);
    assert_eq!(taught.sft, ["the good one"]);
    assert_eq!(taught.pairs, [pair("the good one", "the bad one")]);
    assert_eq!(taught.labels, []);
}

#[test]
fn an_edit_of_next_to_nothing_is_an_accept_and_is_counted() {
    let words: Vec<String> = (0..100).map(|nth| format!("word{nth}")).collect();
    let reply = words.join(" ");
    let judged = with(step("s", "a", "p", &reply), edit(&reply.replace("word7 ", "slip ")));
    let draft = built([judged]);
    assert_eq!(count(&draft, "join", "edits_of_next_to_nothing"), 1);
    let taught = taught(&draft);
    assert_eq!((&taught.sft[0], taught.pairs.len()), (&reply, 1), "the pair every test has");
    assert_eq!(taught.labels, [(true, reply)]);
}

#[test]
fn a_reply_that_was_written_anew_is_imitated_and_not_preferred() {
    let draft = built([with(step("s", "a", "p", "bad"), edit("good"))]);
    assert_eq!(count(&draft, "build", "edit_rewrites"), 1);
    let taught = taught_by([with(step("s", "a", "p", "bad"), edit("good"))]);
    assert_eq!((taught.sft, taught.pairs.len()), (vec!["good".to_owned()], 0));
}

#[test]
fn a_pair_of_unlike_lengths_is_no_pair() {
    let judged = with(step("s", "a", "p", "one two three"), edit("one two three 4 5 6 7"));
    let draft = built([judged.clone()]);
    assert_eq!(count(&draft, "build", "edit_length_ratio"), 1);
    let taught = taught_by([judged]);
    assert_eq!((taught.sft.len(), taught.pairs.len()), (1, 0));
}

#[test]
fn edits_that_delete_reveal_or_replace_a_call_teach_nothing() {
    let calling = || {
        let mut judged = step("s", "a", "p", "Let me look");
        let function = serde_json::from_str(r#"{"name":"f","arguments":"{}"}"#).unwrap();
        let kind = "function".to_owned();
        judged.step.reply.tool_calls = vec![ToolCall { id: "1".to_owned(), kind, function }];
        judged
    };
    let cases = [
        ("edit_empty", step("s", "a", "p", "bad"), " "),
        ("edit_deletes_most", step("s", "a", "p", "one two three four five six"), "one"),
        ("edit_of_personal_data", step("s", "a", "p", "Ask us"), "Ask us a@x.example"),
        ("edit_of_personal_data", step("s", "a", "p", "To b@x.example"), "To a@x.example"),
        ("edit_of_tool_calls", calling(), "Let me see"),
    ];
    for (why, judged, text) in cases {
        let judged = with(judged, edit(text));
        let draft = built([judged.clone()]);
        assert_eq!((why, count(&draft, "build", why)), (why, 1));
        assert_eq!(taught_by([judged]), Taught::default(), "{why}");
    }
}

/// The exact comparison of these would take long, and the words alone tell as much.
#[test]
fn an_edit_of_a_book_is_compared_by_its_words() {
    let book =
        |from: u32| (from..from + 20_000).map(|n| format!("w{n}")).collect::<Vec<_>>().join(" ");
    let taught = taught_by([with(step("s", "a", "p", &book(0)), edit(&book(6_000)))]);
    assert_eq!((taught.sft.len(), taught.pairs.len()), (1, 1), "a third of it was changed");
    let taught = taught_by([with(step("s", "a", "p", &book(0)), edit(&book(19_000)))]);
    assert_eq!((taught.sft.len(), taught.pairs.len()), (1, 0));
}

#[test]
fn the_last_edit_counts_and_an_accept_beside_it_means_the_edited_text() {
    let step = with(step("s", "a", "p", "the bad one"), edit("the better one"));
    let taught = taught_by([with(with(step, Signal::Accept), edit("the best one"))]);
    assert_eq!(taught.sft, ["the best one"]);
    assert_eq!(taught.pairs, [pair("the best one", "the bad one")]);
}

#[test]
fn an_edit_that_changes_nothing_is_an_accept() {
    let taught = taught_by([with(step("s", "a", "p", "good"), edit("good\n"))]);
    assert_eq!(taught.pairs, []);
    assert_eq!(taught.sft, ["good"]);
    assert_eq!(taught.labels, [(true, "good".to_owned())]);
}

#[test]
fn a_regenerate_prefers_the_next_accepted_reply_to_the_same_prompt() {
    let again = || Signal::Regenerate { kept: None };
    let taught = taught_by([
        with(step("s", "a", "p", "first"), again()),
        later(with(step("s", "b", "p", "second"), again()), 1),
        later(with(step("s", "c", "another", "no answer to p"), Signal::Accept), 2),
        later(with(step("s", "d", "p", "third"), Signal::Accept), 3),
        later(with(step("s", "e", "p", "fourth"), Signal::Accept), 4),
        later(with(step("elsewhere", "f", "p", "fifth"), Signal::Accept), 1),
    ]);
    assert_eq!(taught.pairs, [pair("third", "first"), pair("third", "second")]);
}

#[test]
fn a_regenerate_follows_the_response_the_client_names_into_another_trajectory() {
    let named = || Signal::Regenerate { kept: Some("chatcmpl-b".to_owned()) };
    let first = || with(step("s", "a", "p", "first"), named());
    let kept = step("t", "b", "p", "kept");
    assert_eq!(taught_by([first(), kept.clone()]).pairs, [pair("kept", "first")]);

    let draft = built([first(), kept.clone()]);
    let (_root, frozen) = freeze(&draft);
    let origin = frozen.pairs(Split::Train).unwrap()[0].origin.clone();
    assert_eq!(origin.trajectory, TrajectoryId::derived("s").to_string());
    assert_eq!(origin.steps, ["a", "b"].map(|name| StepId::derived(name).to_string()));
    assert_eq!(origin.because, ["regenerate"]);

    let flagged = with(kept, Signal::Flag { reason: "rude".to_owned() });
    let elsewhere = step("t", "b", "another prompt", "kept");
    let same = step("t", "b", "p", "first");
    for other in [flagged, elsewhere, same] {
        assert_eq!(taught_by([first(), other]).pairs, []);
    }
}

#[test]
fn a_regenerate_never_kept_teaches_nothing() {
    let again = with(step("s", "a", "p", "first"), Signal::Regenerate { kept: None });
    let unaccepted = later(step("s", "b", "p", "second"), 1);
    assert_eq!(taught_by([again, unaccepted]), Taught::default());
    let own = Signal::Regenerate { kept: Some("chatcmpl-a".to_owned()) };
    let first = with(step("s", "a", "p", "first"), own);
    let second = later(with(step("s", "b", "p", "second"), Signal::Abandon), 1);
    assert_eq!(taught_by([first, second]).pairs, []);
}

#[test]
fn an_inferred_abandon_is_a_weak_label() {
    let mut left = with(step("s", "a", "p", "meh"), Signal::Abandon);
    left.outcomes[0].source = Source::Implicit;
    let draft = built([left, with(step("s", "b", "q", "good"), Signal::Accept)]);
    let (_root, frozen) = freeze(&draft);
    let labels = frozen.labels(Split::Train).unwrap();
    let weak = labels.iter().find(|row| !row.label).unwrap();
    assert_eq!((weak.reward, weak.weight), (0.0, 0.25));
    assert_eq!(weak.origin.because, ["abandon"]);
    let strong = labels.iter().find(|row| row.label).unwrap();
    assert_eq!((strong.reward, strong.weight), (1.0, 1.0));
}

#[test]
fn a_reply_below_the_least_reward_is_labelled_but_not_imitated() {
    let rated = with(step("s", "a", "p", "fair"), Signal::Rating { value: 0.8 });
    let taught = taught_by([rated]);
    assert_eq!(taught.sft, [""; 0]);
    assert_eq!(taught.labels, [(true, "fair".to_owned())]);
    let even = with(step("s", "a", "p", "fair"), Signal::Rating { value: 0.5 });
    assert_eq!(taught_by([even]), Taught::default());
}

#[test]
fn contradictory_outcomes_go_to_review_and_not_to_rows() {
    let flag = || Signal::Flag { reason: "rude".to_owned() };
    let contradictions = [
        (Signal::Accept, flag()),
        (edit("good"), flag()),
        (Signal::Rating { value: 1.0 }, flag()),
        (Signal::Accept, Signal::Rating { value: 0.0 }),
    ];
    for (one, other) in contradictions {
        let draft = built([with(with(step("s", "a", "p", "bad"), one), other)]);
        assert_eq!(count(&draft, "join", "review"), 1);
        assert_eq!(taught(&draft), taught(&built([])));
    }
    let flagged = taught_by([with(step("s", "a", "p", "bad"), flag())]);
    assert_eq!(flagged.labels, [(false, "bad".to_owned())]);
}

fn by(mut judged: JudgedStep, source: Source, signal: Signal) -> JudgedStep {
    judged = with(judged, signal);
    judged.outcomes.last_mut().unwrap().source = source;
    judged
}

#[test]
fn what_somebody_says_and_a_program_disproves_goes_to_review_by_id_and_reason() {
    let verdict = |score| Signal::Verifier { name: "tests".to_owned(), score };
    let cases = [
        (Signal::Accept, 0.0, Some("liked by somebody, and failed by a verifier")),
        (Signal::Rating { value: 1.0 }, 0.1, Some("liked by somebody, and failed by a verifier")),
        (Signal::Abandon, 1.0, Some("disliked by somebody, and passed by a verifier")),
        (
            Signal::Rating { value: 0.0 },
            1.0,
            Some("disliked by somebody, and passed by a verifier"),
        ),
        (Signal::Accept, 0.5, None),
        (Signal::Accept, 1.0, None),
    ];
    for (said, score, why) in cases {
        let judged = with(step("s", "a", "p", "reply"), said.clone());
        let judged = by(judged, Source::Automated, verdict(score));
        let draft = built([judged.clone()]);
        assert_eq!(count(&draft, "join", "review"), u64::from(why.is_some()), "{said:?} {score}");
        let conflicts = review([judged.clone()]);
        assert_eq!(conflicts.iter().map(|one| one.why).collect::<Vec<_>>(), Vec::from_iter(why));
        if let Some(one) = conflicts.first() {
            assert_eq!(one.step, StepId::derived("a").to_string());
            assert_eq!(one.said[1], format!("verifier tests {score}"));
        }
        // Behaviour is nobody's word, and the score of a whole attempt is about no reply.
        let implicit = by(step("s", "a", "p", "reply"), Source::Implicit, said);
        assert_eq!(review([by(implicit, Source::Automated, verdict(score))]), []);
        let mut whole = judged;
        whole.outcomes[1].note = Some(Outcome::note_of_problem("p"));
        assert_eq!(review([whole]), []);
    }
}

#[test]
fn what_witnesses_leave_open_goes_to_review_and_makes_no_row() {
    let rated = |value| with(step("s", "a", "p", "reply"), Signal::Rating { value });
    let verdict = |score| Signal::Verifier { name: "tests".to_owned(), score };
    let open = by(rated(0.7), Source::Automated, verdict(0.3));
    let draft = built([open.clone()]);
    assert_eq!((count(&draft, "join", "review"), taught(&draft)), (1, taught(&built([]))));
    let found = review([open]);
    assert_eq!(
        found[0].why,
        "some speak for it and some against it, and neither outweighs the other"
    );
    assert_eq!(found[0].said, ["rating 0.7", "verifier tests 0.3"]);
    assert_eq!(review([by(rated(1.0), Source::Automated, verdict(0.4))]), []);
    // Behaviour is a witness only where the policy counts it.
    let weak = by(rated(0.6), Source::Implicit, Signal::Abandon);
    assert_eq!(review([weak.clone()]).len(), 1);
    let calibrated = Data { reward: "calibrated".to_owned(), ..all_train() };
    assert_eq!(review_by(&calibrated, [weak]), []);
}

fn review(steps: impl IntoIterator<Item = JudgedStep>) -> Vec<Conflict> {
    review_by(&all_train(), steps)
}

fn review_by(data: &Data, steps: impl IntoIterator<Item = JudgedStep>) -> Vec<Conflict> {
    let (task, now) = (task(), at(86_400_000));
    let request = Request { task: &task, data, seed: 17, sources: &[], suites: &[], now };
    let mut builder = Builder::new(request, &std::env::temp_dir()).unwrap();
    for trajectory in trajectories(steps) {
        builder.add(trajectory).unwrap();
    }
    let replies = builder.review().unwrap().into_iter().filter_map(|one| match one {
        crate::Review::Reply(conflict) => Some(conflict),
        crate::Review::Burst(_) => None,
    });
    replies.collect()
}

#[test]
fn steps_that_are_not_whole_are_filtered_by_reason() {
    type Spoil = fn(&mut Step);
    let good = || with(step("s", "a", "p", "reply"), Signal::Accept);
    let flawed: [(&str, Spoil); 6] = [
        ("failed", |step| step.error = Some("timeout".to_owned())),
        ("cut_off", |step| step.finish_reason = FinishReason::Length),
        ("aborted", |step| step.finish_reason = FinishReason::Aborted),
        ("empty", |step| step.reply = Message::assistant(" ")),
        ("empty", |step| step.prompt.clear()),
        ("not_text", |step| {
            let image = r#"[{"type":"image_url","image_url":{"url":"data:"}}]"#;
            step.prompt[1].content = serde_json::from_str::<Content>(image).unwrap();
        }),
    ];
    for (reason, spoil) in flawed {
        let mut judged = good();
        spoil(&mut judged.step);
        let draft = built([judged]);
        assert_eq!(count(&draft, "filter", reason), 1, "{reason}");
        assert_eq!(taught(&draft), taught(&built([])), "{reason}");
    }
}

#[test]
fn other_tasks_old_steps_silent_steps_and_repeated_steps_are_counted() {
    let mut other = with(step("s", "x", "p", "reply"), Signal::Accept);
    other.step.task = "elsewhere".parse().unwrap();
    let old = with(step("s", "old", "p0", "old reply"), Signal::Accept);
    let good = later(with(step("s", "a", "p", "reply"), edit("good")), 80_000_000);
    let silent = later(step("s", "silent", "q", "reply"), 80_000_000);
    let data = Data { since: Some("12h".to_owned()), ..all_train() };
    let draft = try_build(&data, &[], [other, old, good.clone(), good, silent]).unwrap();
    assert_eq!(count(&draft, "select", "other_task"), 1);
    assert_eq!(count(&draft, "select", "too_old"), 1);
    assert_eq!(count(&draft, "select", "repeated"), 1);
    assert_eq!(count(&draft, "join", "no_outcome"), 1);
    assert_eq!(taught(&draft).sft, ["good"]);
}

#[test]
fn the_outcomes_of_a_step_that_comes_in_pieces_are_joined() {
    let whole = with(with(step("s", "a", "p", "bad"), edit("better")), edit("best"));
    let (mut one, mut other) = (whole.clone(), whole);
    one.outcomes.truncate(1);
    other.outcomes.remove(0);
    assert_eq!(taught_by([other, one]).sft, ["best"]);
}

#[test]
fn personal_data_is_masked_everywhere_and_counted() {
    let mut judged = with(
        step("s", "a", "I am a@x.example", "{\"to\": \"a@x.example\"}"),
        edit("{\"to\": \"b@x.example\", \"urgent\": true}"),
    );
    let said = r#"{"role":"assistant","content":"","tool_calls":[{"id":"1","type":"function",
        "function":{"name":"f","arguments":"{\"m\":\"b@x.example\"}"}}]}"#;
    judged.step.prompt.push(serde_json::from_str(said).unwrap());
    let draft = try_build(&all_train(), &[], [judged.clone()]).unwrap();
    let (_root, frozen) = freeze(&draft);
    let row = &frozen.pairs(Split::Train).unwrap()[0];
    assert_eq!(row.prompt[1].text(), "I am <EMAIL_1>");
    assert_eq!(row.prompt[2].tool_calls[0].function.arguments, "{\"m\":\"<EMAIL_2>\"}");
    assert_eq!(row.chosen[0].text(), "{\"to\": \"<EMAIL_2>\", \"urgent\": true}");
    assert_eq!(row.rejected[0].text(), "{\"to\": \"<EMAIL_1>\"}");
    assert_eq!(draft.manifest().redacted["email"], 5);
    assert_eq!(draft.manifest().redaction, "standard@4");

    let off = Data { redact: Redact::Off, ..all_train() };
    let open = try_build(&off, &[], [judged]).unwrap();
    assert_eq!(open.manifest().redaction, "off");
    assert!(open.file("sft.train.jsonl").unwrap().unwrap().contains("a@x.example"));
}

#[test]
fn exact_duplicates_after_redaction_are_dropped_and_the_oldest_stays() {
    let accepted = |name: &str, mail: &str| {
        with(step(name, name, &format!("I am {mail}"), "hello"), Signal::Accept)
    };
    let draft = built([later(accepted("b", "b@x.example"), 5), accepted("a", "a@x.example")]);
    assert_eq!(count(&draft, "dedupe", "sft"), 1);
    assert_eq!(count(&draft, "dedupe", "labels"), 1);
    let (_root, frozen) = freeze(&draft);
    let rows = frozen.sft(Split::Train).unwrap();
    assert_eq!(rows[0].origin.steps, [StepId::derived("a").to_string()]);
}

#[test]
fn a_limit_keeps_all_rows_of_the_newest_steps() {
    let edited = |nth: i64| {
        let name = nth.to_string();
        let text = format!("the good {nth}");
        later(with(step(&name, &name, &name, &format!("the bad {nth}")), edit(&text)), nth)
    };
    let data = Data { limit: Some(2), ..all_train() };
    let taught = taught(&try_build(&data, &[], (0..5).map(edited)).unwrap());
    assert_eq!(taught.sft, ["the good 3", "the good 4"]);
    assert_eq!(taught.pairs.len(), 2);
}

#[test]
fn a_share_of_the_limit_is_drawn_evenly_from_what_is_older() {
    let accepted = |nth: i64| {
        let name = format!("{nth:02}");
        later(with(step(&name, &name, &name, &format!("answer {name}")), Signal::Accept), nth)
    };
    let kept = |limit: u64, replay: f64| {
        let data = Data { limit: Some(limit), replay, ..all_train() };
        taught(&try_build(&data, &[], (0..20).map(accepted)).unwrap()).sft
    };
    let answers = |of: &[i64]| of.iter().map(|nth| format!("answer {nth:02}")).collect::<Vec<_>>();
    assert_eq!(kept(8, 0.0), answers(&[12, 13, 14, 15, 16, 17, 18, 19]));
    assert_eq!(kept(8, 0.5), answers(&[3, 7, 11, 15, 16, 17, 18, 19]));
    assert_eq!(kept(30, 0.5), answers(&(0..20).collect::<Vec<_>>()), "there are enough for all");
    assert_eq!(kept(1, 0.9), answers(&[19]), "something new is always learnt");
}

#[test]
fn too_few_verified_examples_are_refused_with_the_number_missing() {
    let steps = || {
        (0..12).map(|nth| {
            let name = nth.to_string();
            with(step(&name, &name, &name, "reply"), Signal::Accept)
        })
    };
    // Judged, but nothing to imitate: these do not count.
    let left = (20..40).map(|nth| with(step("l", &nth.to_string(), "p", "reply"), Signal::Abandon));
    let data = Data { min_verified: 64, ..Data::default() };
    let error = try_build(&data, &[], steps().chain(left)).unwrap_err();
    assert!(matches!(error, DatasetError::NotEnough { found: 12, missing: 52, .. }), "{error}");
    assert!(error.to_string().contains("52 are missing"), "{error}");
    let data = Data { min_verified: 12, ..Data::default() };
    assert!(try_build(&data, &[], steps()).is_ok());
}

#[test]
fn nothing_to_imitate_or_prefer_is_refused_even_when_nothing_is_demanded() {
    let left = with(step("s", "a", "p", "reply"), Signal::Abandon);
    let error = try_build(&all_train(), &[], [left]).unwrap_err();
    assert!(matches!(error, DatasetError::Nothing { labels: 1, .. }), "{error}");
}

#[test]
fn settings_that_cannot_be_followed_are_refused() {
    let unknown = Data { reward: "magic".to_owned(), ..all_train() };
    assert!(matches!(try_build(&unknown, &[], []), Err(DatasetError::UnknownPolicy(_))));
    let since = Data { since: Some("soon".to_owned()), ..all_train() };
    assert!(matches!(try_build(&since, &[], []), Err(DatasetError::Since(_))));
    let version = format!("{}@{}", task(), understudy_ident::Digest::of(b""));
    let source = serde_json::from_value(version.into()).unwrap();
    let frozen = Data { source, ..all_train() };
    assert!(matches!(try_build(&frozen, &[], []), Err(DatasetError::AlreadyFrozen(_))));
}

#[test]
fn the_last_rating_and_the_last_verdict_of_a_verifier_count() {
    let rated = |values: &[f64]| {
        let mut judged = step("s", "a", "p", "good");
        for &value in values {
            judged = with(judged, Signal::Rating { value });
        }
        judged
    };
    let draft = built([rated(&[0.0, 1.0])]);
    assert_eq!(count(&draft, "join", "outcomes_superseded"), 1);
    assert_eq!(count(&draft, "join", "review"), 0, "a change of mind is no contradiction");
    assert_eq!(taught_by([rated(&[0.0, 1.0])]).labels, [(true, "good".to_owned())]);
    assert_eq!(taught_by([rated(&[1.0, 0.0])]).labels, [(false, "good".to_owned())]);
    let verified = |scores: &[(&str, f64)]| {
        let mut judged = step("s", "a", "p", "good");
        for &(name, score) in scores {
            judged = with(judged, Signal::Verifier { name: name.to_owned(), score });
        }
        judged
    };
    let taught = taught_by([verified(&[("tests", 0.0), ("tests", 1.0), ("lint", 1.0)])]);
    assert_eq!(taught.sft, ["good"]);
    let taught = taught_by([verified(&[("tests", 0.0), ("lint", 1.0)])]);
    assert_eq!((taught.sft.len(), taught.labels.len()), (0, 0), "two verifiers are two opinions");
}

#[test]
fn nobody_has_more_than_the_cap() {
    let steps = (0..40).map(|nth| {
        let name = nth.to_string();
        let mut judged = later(with(step(&name, &name, &name, "reply"), Signal::Accept), nth);
        judged.step.subject = (nth < 30).then(|| format!("user {}", nth % 2));
        judged
    });
    let data = Data { max_per_subject: Some(5), ..all_train() };
    let draft = try_build(&data, &[], steps.clone()).unwrap();
    // Ten of nobody, and the newest five of either user.
    assert_eq!(draft.manifest().rows("sft.train.jsonl"), 20);
    assert_eq!(count(&draft, "cap", "over_the_cap_of_a_subject"), 40);
    let text = draft.file("sft.train.jsonl").unwrap().unwrap();
    assert!(text.contains(StepId::derived("29").as_str()));
    assert!(!text.contains(StepId::derived("3").as_str()));
    let uncapped = try_build(&all_train(), &[], steps).unwrap();
    assert!(uncapped.manifest().stages.iter().all(|stage| stage.stage != "cap"));
}

#[test]
fn the_card_says_how_far_behaviour_and_redaction_can_be_believed() {
    let steps = (0..60).map(|nth| {
        let name = nth.to_string();
        let said = if nth % 3 == 0 { Signal::Abandon } else { Signal::Accept };
        let mut judged = with(with(step(&name, &name, &name, "reply"), said.clone()), said);
        judged.outcomes[1].source = Source::Implicit;
        judged
    });
    let (_root, frozen) = freeze(&try_build(&all_train(), &[], steps).unwrap());
    let card = std::fs::read_to_string(frozen.dir().join("README.md")).unwrap();
    assert!(card.contains("on 60 replies where both are known (40 wanted): AUC 1.000"), "{card}");
    assert!(card.contains("| implicit abandon | 20 |"), "{card}");
    assert!(card.contains("| card | 136 | 0.993 | 1.000 | 0 |"), "{card}");
    assert!(card.contains("Told, and not used by this policy."), "{card}");
    let silent = try_build(&all_train(), &[], [with(step("s", "a", "p", "r"), Signal::Accept)]);
    assert_eq!(silent.unwrap().manifest().calibration, None);
}

#[test]
fn behaviour_teaches_as_far_as_it_was_found_to_tell_what_people_say() {
    let implicit = |name: &str, reply: &str, signal| {
        let mut judged = with(step(name, name, name, reply), signal);
        judged.outcomes.last_mut().unwrap().source = Source::Implicit;
        judged
    };
    // People say what they think of sixty replies, and copy the good ones; asking again is noise.
    let told = (0..60).map(|nth| {
        let name = nth.to_string();
        let is_good = nth % 3 != 0;
        let said = if is_good { Signal::Accept } else { Signal::Abandon };
        let mut judged = with(step(&name, &name, &name, "told"), said);
        let mut seen = vec![if is_good { Signal::Accept } else { Signal::Abandon }];
        seen.extend((nth % 2 == 0).then_some(Signal::Rating { value: 1.0 }));
        for signal in seen {
            judged = with(judged, signal);
            judged.outcomes.last_mut().unwrap().source = Source::Implicit;
        }
        judged
    });
    // Of these nobody says anything.
    let silent = [
        implicit("copied", "copied", Signal::Accept),
        implicit("left", "left", Signal::Abandon),
        implicit("noise", "noise", Signal::Rating { value: 1.0 }),
    ];
    let data = Data { reward: "calibrated".to_owned(), ..all_train() };
    let draft = try_build(&data, &[], told.clone().chain(silent.clone())).unwrap();
    let manifest = draft.manifest();
    assert_eq!(manifest.reward_policy, "calibrated@1");
    assert_eq!(count(&draft, "build", "tells_nothing"), 1, "the noise");
    let text = draft.file("sft.train.jsonl").unwrap().unwrap();
    assert!(text.contains("copied") && !text.contains("left"));
    let labels = draft.file("labels.train.jsonl").unwrap().unwrap();
    assert!(labels.contains("left") && !labels.contains("noise"), "{labels}");
    // The weights are in the manifest, and so in the version's name; the card says that they count.
    assert!(manifest.calibration.as_ref().unwrap()["signals"]["implicit accept"].is_object());
    let (_root, frozen) = freeze(&draft);
    let card = std::fs::read_to_string(frozen.dir().join("README.md")).unwrap();
    assert!(card.contains("Rewards count behaviour by it"), "{card}");
    // By themselves they teach nothing, and a build of nothing else says so.
    let alone = try_build(&data, &[], silent);
    assert!(matches!(alone, Err(DatasetError::NotEnough { .. } | DatasetError::Nothing { .. })));
}
