use super::*;

fn build(text: &str, mapping: Option<&RowMapping>) -> Result<Suite, IngestError> {
    suite(text, mapping, &task(), Tier::Gate, &[Scorer::JsonEqual], None)
}

#[test]
fn rows_become_numbered_cases_like_the_steps_they_would_become() {
    let mapping = mapping(&["intent", "slots"]);
    let suite = build(SNIPS, Some(&mapping)).unwrap();
    let steps = import_rows(SNIPS, &mapping).unwrap().steps;
    assert_eq!((suite.tier, suite.cases.len()), (Tier::Gate, 5));
    assert_eq!(suite.cases[4].id, "0005");
    for (case, step) in suite.cases.iter().zip(&steps) {
        assert_eq!((&case.prompt, &case.expected), (&step.prompt, &step.reply.text()));
    }
    assert_eq!(Suite::parse(&suite.to_text()).unwrap(), suite);
}

#[test]
fn a_suite_file_keeps_its_own_header() {
    let mapping = mapping(&["intent"]);
    let suite = build(SNIPS, Some(&mapping)).unwrap();
    let other = "other".parse().unwrap();
    let read = |limit| {
        crate::suite(&suite.to_text(), None, &other, Tier::Dev, &[Scorer::Exact], limit).unwrap()
    };
    assert_eq!(read(None), suite);
    assert_eq!(read(Some(2)).cases, suite.cases[..2]);
    assert_eq!(read(Some(2)).name, task());
    let refused = build(&suite.to_text(), Some(&mapping));
    assert_eq!(refused, Err(IngestError::MappingUnused { format: "suite" }));
}

#[test]
fn of_a_pair_the_chosen_reply_is_expected_and_an_unwanted_one_is_no_case() {
    let pair = build(r#"{"prompt": "a", "chosen": "b", "rejected": "c"}"#, None).unwrap();
    assert_eq!(pair.cases[0].expected, "b");
    let unwanted = build(r#"{"prompt": "a", "completion": "b", "label": false}"#, None);
    assert!(matches!(unwanted, Err(IngestError::Case { line: 1, .. })), "{unwanted:?}");
}

#[test]
fn a_suite_has_no_holes_and_is_valid() {
    let broken = format!("{SNIPS}{{\"text\": \"no answer\"}}");
    let mapping = mapping(&["intent"]);
    assert!(matches!(build(&broken, Some(&mapping)), Err(IngestError::Case { line: 6, .. })));
    let unscored = suite(SNIPS, Some(&mapping), &task(), Tier::Dev, &[], None);
    let expected = SuiteError::NoScorer("intents".to_owned());
    assert_eq!(unscored, Err(IngestError::Suite(expected)));
    let none = suite(SNIPS, Some(&mapping), &task(), Tier::Dev, &[Scorer::Exact], Some(0));
    assert_eq!(none, Err(IngestError::Suite(SuiteError::Empty("intents".to_owned()))));
    let recorded = import_rows(SNIPS, &mapping).unwrap();
    let recorded = json!({"step": recorded.steps[0]}).to_string();
    assert_eq!(build(&recorded, None), Err(IngestError::RecordedSuite));
}
