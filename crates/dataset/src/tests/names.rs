//! Names that a recogniser finds, and what becomes of trajectories where it cannot tell.

use understudy_manifest::Redact;
use understudy_redact::{Kind, Named, Recogniser, RecogniserError};

use super::*;
use crate::Builder;

/// Knows these names, and cannot tell about a text with `mumbled` in it.
struct Scripted {
    names: &'static [&'static str],
    is_away: bool,
}

impl Recogniser for Scripted {
    fn id(&self) -> &'static str {
        "names@1:scripted"
    }

    fn names(&self, text: &str) -> Result<Vec<Named>, RecogniserError> {
        if self.is_away {
            let (url, why) = ("http://127.0.0.1:1".to_owned(), "nobody is there".to_owned());
            return Err(RecogniserError::Unreachable { url, why });
        }
        if text.contains("mumbled") {
            return Err(RecogniserError::Unusable { why: "it mumbled".to_owned() });
        }
        let found = self.names.iter().filter(|name| text.contains(**name));
        Ok(found.map(|name| Named { kind: Kind::Person, text: (*name).to_owned() }).collect())
    }
}

fn recognised(
    recogniser: &Scripted,
    data: &Data,
    suites: &[SuiteFingerprints],
    steps: impl IntoIterator<Item = JudgedStep>,
) -> Result<Draft, DatasetError> {
    let (task, sources) = (task(), ["journal up to 7".to_owned()]);
    let now = at(86_400_000);
    let request = Request { task: &task, data, seed: 17, sources: &sources, suites, now };
    let mut builder = Builder::new(request, &std::env::temp_dir())?.recognising(recogniser);
    for trajectory in trajectories(steps) {
        builder.add(trajectory)?;
    }
    builder.finish()
}

const RECOGNISER: Scripted = Scripted { names: &["Ann Lee", "Bo Ek"], is_away: false };

#[test]
fn names_are_masked_in_every_row_and_the_manifest_says_by_what() {
    let asked = |name: &str, prompt: &str, reply: &str, text: &str| {
        with(step(name, name, prompt, reply), edit(text))
    };
    let (reply, text) = ("Ask Bo Ek, Lee or somebody", "Ask Bo Ek, bo@x.example");
    let mut calls = asked("b", "Where is Ann Lee?", reply, text);
    calls.step.prompt.push(Message::user(r#"{"who": "Ann Lee", "n": [1, "Bo Ek"]}"#));
    let (reply, text) = ("Hello Ann Lee, Bo Ek here", "Hello Ann Lee, Bo Ek here. Ask Bo Ek");
    let steps = [asked("a", "I am Ann Lee. Annual?", reply, text), calls];
    let draft = recognised(&RECOGNISER, &all_train(), &[], steps.clone()).unwrap();
    let pairs = draft.file("pairs.train.jsonl").unwrap().unwrap();
    for name in RECOGNISER.names {
        assert!(!pairs.contains(name), "{pairs}");
    }
    assert!(pairs.contains("I am <PERSON_1>. Annual?"), "{pairs}");
    assert!(pairs.contains("Hello <PERSON_1>, <PERSON_2> here"), "{pairs}");
    assert!(pairs.contains("Ask <PERSON_2>, <EMAIL_1>"), "{pairs}");
    assert!(pairs.contains(r#"{\"who\": \"<PERSON_1>\", \"n\": [1, \"<PERSON_2>\"]}"#), "{pairs}");
    let manifest = draft.manifest();
    assert_eq!(manifest.redaction, "standard@4+names@1:scripted");
    assert!(manifest.redacted["person"] >= 8, "{:?}", manifest.redacted);
    let (_root, frozen) = freeze(&draft);
    let card = std::fs::read_to_string(frozen.dir().join("README.md")).unwrap();
    assert!(card.contains("that `names@1:scripted` found"), "{card}");
    assert!(card.contains("| card | 136 | 0.993 |"), "patterns are as measured: {card}");
    // A recipe that masks nothing asks nobody.
    let open = Data { redact: Redact::Off, ..all_train() };
    let away = Scripted { is_away: true, ..RECOGNISER };
    let draft = recognised(&away, &open, &[], steps).unwrap();
    assert_eq!(draft.manifest().redaction, "off");
}

#[test]
fn where_nobody_can_tell_the_whole_trajectory_is_left_out_and_counted() {
    let good = with(step("good", "good", "plain", "fine"), Signal::Accept);
    let first = with(step("bad", "bad 1", "plain too", "fine as well"), Signal::Accept);
    let second = later(with(step("bad", "bad 2", "mumbled", "fine again"), Signal::Accept), 1);
    let steps = [good.clone(), first, second];
    let draft = recognised(&RECOGNISER, &all_train(), &[], steps).unwrap();
    assert_eq!(draft.manifest().rows("sft.train.jsonl"), 1);
    assert_eq!(count(&draft, "redact", "steps_with_names_unknown"), 2);
    let away = Scripted { is_away: true, ..RECOGNISER };
    let error = recognised(&away, &all_train(), &[], [good]).unwrap_err();
    assert!(matches!(error, DatasetError::Recogniser(_)), "{error}");
}

#[test]
fn a_held_out_case_with_a_name_in_it_is_still_found() {
    let held_out = suite(&["what did Ann Lee order on the third of May and why was it late"]);
    let prompt = "what did Ann Lee order on the third of May and why was it late";
    let planted = with(step("p", "p", prompt, "bad"), edit("good"));
    let clean = with(step("c", "c", "an unrelated question of somebody", "bad"), edit("fine"));
    let draft = recognised(&RECOGNISER, &all_train(), &[held_out], [planted, clean]).unwrap();
    assert_eq!(draft.manifest().rows("sft.train.jsonl"), 1);
    assert!(!draft.file("sft.train.jsonl").unwrap().unwrap().contains("order on the third"));
}

#[test]
fn without_a_model_names_are_found_by_their_cues_where_a_recipe_wants_it() {
    let ask = "My name is Ann van Yefremova. I live in Kenosha.";
    let said = with(step("a", "a", ask, "Hello Yefremova, how can I help?"), edit("Hi Yefremova"));
    let by = |redact, said: &JudgedStep| {
        let data = Data { redact, ..all_train() };
        try_build(&data, &[], [said.clone()]).unwrap()
    };
    let draft = by(Redact::Names, &said);
    assert_eq!(draft.manifest().redaction, "standard@4+cues@2");
    let rows = draft.file("sft.train.jsonl").unwrap().unwrap();
    assert!(rows.contains("My name is <PERSON_1>. I live in <LOCATION_1>."), "{rows}");
    assert!(rows.contains("Hi <PERSON_1>"), "the same person by one name: {rows}");
    let (_root, frozen) = freeze(&draft);
    let card = std::fs::read_to_string(frozen.dir().join("README.md")).unwrap();
    assert!(card.contains("| person | 857 | 0.529 | 0.968 | "), "{card}");
    assert!(card.contains("patterns find 0.127 (precision 1.000), and with the cues"), "{card}");

    let draft = by(Redact::Standard, &said);
    assert_eq!(draft.manifest().redaction, "standard@4");
    let (_root, frozen) = freeze(&draft);
    let card = std::fs::read_to_string(frozen.dir().join("README.md")).unwrap();
    assert!(!card.contains("| person |") && card.contains("with `redact = \"names\"` it is 0.577"));

    // A model that is configured is asked instead.
    let data = Data { redact: Redact::Names, ..all_train() };
    let draft = recognised(&RECOGNISER, &data, &[], [said]).unwrap();
    assert_eq!(draft.manifest().redaction, "standard@4+names@1:scripted");
}
