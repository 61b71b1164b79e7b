use serde_json::json;
use understudy_ident::{Digest, TaskName, Timestamp};
use understudy_inference::FinishReason;
use understudy_manifest::{Scorer, Suite, SuiteError, Tier};
use understudy_message::Message;
use understudy_trajectory::{Signal, Source, Target};

use crate::{Format, Imported, IngestError, Rejected, RowMapping, read, suite};

const SNIPS: &str = r#"{"text": "Add another song to the Cita Romántica playlist.", "intent": "AddToPlaylist", "slots": {"music_item": ["song"], "playlist": ["Cita Romántica"]}}
{"text": "book a table for two in Bristol", "intent": "BookRestaurant", "slots": {"party_size_number": ["two"], "city": ["Bristol"]}}
{"text": "will it rain tomorrow", "intent": "GetWeather", "slots": {"timeRange": ["tomorrow"], "condition_description": ["rain"]}}
{"text": "play some jazz", "intent": "PlayMusic", "slots": {"genre": ["jazz"]}}
{"text": "rate this novel 4 of 6", "intent": "RateBook", "slots": {"rating_value": ["4"], "best_rating": ["6"], "object_type": ["novel"]}}
"#;

fn task() -> TaskName {
    "intents".parse().unwrap()
}

fn mapping(output: &[&str]) -> RowMapping {
    let output = output.iter().map(|&field| field.to_owned()).collect();
    RowMapping { input: "text".to_owned(), output, system: Some("Answer in JSON.".to_owned()) }
}

fn import(format: Format, text: &str) -> Result<Imported, IngestError> {
    read(format, &task(), text, None, None, Timestamp::UNIX_EPOCH)
}

fn import_rows(text: &str, mapping: &RowMapping) -> Result<Imported, IngestError> {
    read(Format::Rows, &task(), text, Some(mapping), None, Timestamp::UNIX_EPOCH)
}

/// The only reason, when nothing of the text was taken.
fn refusal(format: Format, text: &str) -> String {
    let imported = import(format, text).unwrap();
    assert!(imported.steps.is_empty() && imported.outcomes.is_empty(), "{imported:?}");
    let [Rejected { line: 1, why }] = imported.rejected.as_slice() else {
        panic!("{:?}", imported.rejected)
    };
    why.clone()
}

mod formats;
mod mutations;
mod recorded;
mod suites;

#[test]
fn every_format_name_reads_back_and_an_unknown_one_lists_them() {
    let names = "auto openai trl rows understudy tau-bench atif langsmith otlp";
    for name in names.split(' ') {
        assert_eq!(Format::parse(name).unwrap().as_str(), name);
    }
    let error = Format::parse("parquet").unwrap_err().to_string();
    for name in names.split(' ').chain(["`parquet`"]) {
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn an_imported_step_says_that_nobody_served_or_routed_it() {
    let imported = import_rows(SNIPS, &mapping(&["intent"])).unwrap();
    let (step, outcome) = (&imported.steps[0], &imported.outcomes[0]);
    assert_eq!(step.served.base, "imported");
    assert_eq!(step.finish_reason, FinishReason::Stop);
    assert!(step.response_id.starts_with("import-"));
    assert!(step.assignment.is_none() && step.tokens.is_none() && step.error.is_none());
    assert_eq!(outcome.target, Target::Step(step.id.to_string()));
    assert_eq!(outcome.source, Source::Automated);
}

#[test]
fn importing_again_later_and_in_another_spelling_gives_the_same_ids() {
    let respelled: Vec<_> = SNIPS
        .lines()
        .rev()
        .map(|line| {
            let row: crate::Row = serde_json::from_str(line).unwrap();
            serde_json::Value::Object(row.into_iter().rev().collect())
        })
        .collect();
    let respelled = serde_json::to_string_pretty(&respelled).unwrap();
    let mapping = mapping(&["intent", "slots"]);
    let at = "2026-02-03T04:05:06Z".parse().unwrap();
    let first = import_rows(SNIPS, &mapping).unwrap();
    let again = read(Format::Auto, &task(), &respelled, Some(&mapping), None, at).unwrap();
    let ids = |imported: &Imported| {
        let steps = imported
            .steps
            .iter()
            .map(|step| format!("{} {} {}", step.id, step.trajectory, step.response_id));
        let outcomes = imported.outcomes.iter().map(|outcome| outcome.id.to_string());
        let mut ids: Vec<String> = steps.chain(outcomes).collect();
        ids.sort();
        ids.dedup();
        ids
    };
    assert_eq!(ids(&first).len(), 10);
    assert_eq!(ids(&first), ids(&again));
    assert_eq!(again.steps[0].at, at);
}

#[test]
fn another_task_or_another_mapping_gives_other_ids() {
    let one = import_rows(SNIPS, &mapping(&["intent"])).unwrap();
    let other = import_rows(SNIPS, &mapping(&["slots"])).unwrap();
    assert!(one.steps.iter().all(|step| other.steps.iter().all(|other| other.id != step.id)));
    let elsewhere = "elsewhere".parse().unwrap();
    let mapping = mapping(&["intent"]);
    let moved =
        read(Format::Rows, &elsewhere, SNIPS, Some(&mapping), None, Timestamp::UNIX_EPOCH).unwrap();
    assert_ne!(one.steps[0].id, moved.steps[0].id);
    assert_ne!(one.outcomes[0].id, moved.outcomes[0].id);
}

#[test]
fn broken_lines_are_reported_and_the_rest_goes_on() {
    let text = format!("{{\"text\": \"cut o\n\n[1]\n{{\"text\": \"no answer\"}}\n{SNIPS}");
    let imported = import_rows(&text, &mapping(&["intent", "slots"])).unwrap();
    assert_eq!(imported.steps.len(), 5);
    let lines: Vec<usize> = imported.rejected.iter().map(|rejected| rejected.line).collect();
    assert_eq!(lines, [1, 3, 4]);
    assert!(imported.rejected[0].why.starts_with("not JSON"), "{:?}", imported.rejected);
    assert_eq!(imported.rejected[2].why, "there is no field `intent`");
}

#[test]
fn a_limit_counts_what_was_taken() {
    let text = format!("broken\n{SNIPS}");
    let mapping = mapping(&["intent"]);
    let at = Timestamp::UNIX_EPOCH;
    let imported = read(Format::Rows, &task(), &text, Some(&mapping), Some(2), at).unwrap();
    assert_eq!((imported.steps.len(), imported.outcomes.len()), (2, 2));
    assert_eq!(imported.rejected.len(), 1);
}

#[test]
fn a_text_without_rows_is_an_error() {
    assert_eq!(import(Format::Auto, "\n \n"), Err(IngestError::Empty));
    assert_eq!(import(Format::OpenAi, "[]"), Err(IngestError::Empty));
    assert!(matches!(import(Format::Auto, "[{\"text\": "), Err(IngestError::Array(_))));
}
