//! Names that are on record for a subject.

use super::*;
use crate::{Accounts, Builder};

const RECORDS: &str = concat!(
    r#"{"subject": "user-1", "people": ["Ada Lovelace"], "locations": ["12 Example Street"]}"#,
    "\n",
    r#"{"subject": "user-2", "people": ["Bo Ek"]}"#,
    "\n",
    r#"{"organizations": ["Analytical Engines"]}"#,
    "\n",
);

fn built(records: &str, data: &Data, steps: impl IntoIterator<Item = JudgedStep>) -> Draft {
    let accounts = Accounts::parse(records).unwrap();
    let (task, now) = (task(), at(86_400_000));
    let request = Request { task: &task, data, seed: 17, sources: &[], suites: &[], now };
    let mut builder = Builder::new(request, &std::env::temp_dir()).unwrap().knowing(&accounts);
    for trajectory in trajectories(steps) {
        builder.add(trajectory).unwrap();
    }
    builder.finish().unwrap()
}

fn of(subject: &str, name: &str, prompt: &str, reply: &str) -> JudgedStep {
    let mut judged = with(step(name, name, prompt, reply), Signal::Accept);
    judged.step.subject = Some(subject.to_owned());
    judged
}

#[test]
fn a_subjects_names_are_one_pseudonym_in_every_spelling_and_only_in_what_is_theirs() {
    let steps = [
        of(
            "user-1",
            "a",
            "ADA LOVELACE of 12 Example Street, for Analytical Engines. Bo Ek knows.",
            r#"{"to": "Ada", "from": ["ada lovelace"], "team": "Lovelace & co"}"#,
        ),
        of("user-2", "b", "Ada wrote to Bo Ek", "Hello Bo Ek of Analytical Engines"),
        of("user-3", "c", "Ada Lovelace was a mathematician", "So she was"),
    ];
    let draft = built(RECORDS, &all_train(), steps.clone());
    let text = draft.file("sft.train.jsonl").unwrap().unwrap();
    let first = "<PERSON_1> of <LOCATION_1>, for <ORGANIZATION_1>. Bo Ek knows.";
    assert!(text.contains(first), "{text}");
    let reply =
        r#"{\"to\": \"<PERSON_1>\", \"from\": [\"<PERSON_1>\"], \"team\": \"<PERSON_1> & co\"}"#;
    assert!(text.contains(reply), "{text}");
    assert!(text.contains("Ada wrote to <PERSON_1>"), "{text}");
    assert!(text.contains("Ada Lovelace was a mathematician"), "{text}");
    let manifest = draft.manifest();
    assert_eq!(manifest.redaction, "standard@4+accounts@1");
    assert_eq!(count(&draft, "redact", "trajectories_with_names_on_record"), 3);
    let (_root, frozen) = freeze(&draft);
    let card = std::fs::read_to_string(frozen.dir().join("README.md")).unwrap();
    assert!(card.contains("Names on record were masked") && card.contains("(3 of 3 had"), "{card}");
    assert!(card.contains("| card | 136 | 0.993 |"), "patterns are as measured: {card}");
    // A recipe that masks nothing does not ask who anybody is.
    let open = Data { redact: understudy_manifest::Redact::Off, ..all_train() };
    let draft = built(RECORDS, &open, steps);
    assert_eq!(draft.manifest().redaction, "off");
    assert!(draft.file("sft.train.jsonl").unwrap().unwrap().contains("ADA LOVELACE"));
}

#[test]
fn the_card_says_whose_names_nobody_knows() {
    let own = RECORDS.lines().next().unwrap();
    let steps = [of("user-1", "a", "I am Ada", "ok"), of("user-9", "b", "I am Cleo", "ok")];
    let draft = built(own, &all_train(), steps);
    assert_eq!(count(&draft, "redact", "trajectories_without_names_on_record"), 1);
    let text = draft.file("sft.train.jsonl").unwrap().unwrap();
    assert!(text.contains("I am <PERSON_1>") && text.contains("I am Cleo"), "{text}");
}

#[test]
fn a_held_out_case_with_a_name_on_record_is_still_found() {
    let held_out = "what did Ada Lovelace order on the third of May and why was it late";
    let planted = of("user-1", "p", held_out, "because");
    let clean = of("user-1", "c", "an unrelated question of somebody", "fine");
    let accounts = Accounts::parse(RECORDS).unwrap();
    let (task, data, now) = (task(), all_train(), at(86_400_000));
    let suites = [suite(&[held_out])];
    let request = Request { task: &task, data: &data, seed: 1, sources: &[], suites: &suites, now };
    let mut builder = Builder::new(request, &std::env::temp_dir()).unwrap().knowing(&accounts);
    for trajectory in trajectories([planted, clean]) {
        builder.add(trajectory).unwrap();
    }
    let draft = builder.finish().unwrap();
    assert_eq!(draft.manifest().rows("sft.train.jsonl"), 1);
}

#[test]
fn a_record_that_cannot_be_read_names_its_line_and_nothing_in_it() {
    let good = RECORDS.lines().next().unwrap();
    for wrong in [
        "Ada Lovelace",
        r#"{"subject": "u", "persons": ["Ada Lovelace"]}"#,
        r#"{"people": "Ada Lovelace"}"#,
        r#"{"people": ["A."]}"#,
    ] {
        let error = Accounts::parse(&format!("{good}\n\n{wrong}\n")).unwrap_err();
        assert!(matches!(error, DatasetError::Account { line: 3, .. }), "{error}");
        assert!(!error.to_string().contains("Ada"), "{error}");
    }
}
