use std::io::Write;

use serde_json::json;
use understudy_manifest::Tier;
use zip::{ZipWriter, write::SimpleFileOptions};

use super::*;
use crate::{Beside, Foreign, ForeignSuite, foreign_suite};

/// A log of one sample.
fn example() -> Value {
    json!({
        "version": 2, "status": "success",
        "eval": {"task": "sums", "run_id": "r1", "scorers": [{"name": "inspect_ai/match"}]},
        "samples": [{
            "id": 1, "epoch": 1, "input": "2+2?", "target": "4",
            "messages": [
                {"role": "system", "content": "Be brief.", "source": "input"},
                {"role": "user", "content": [{"type": "text", "text": "2+2?"}]},
                {"role": "assistant", "content": "It is 4.", "source": "generate"},
            ],
            "output": {"completion": "It is 4."},
            "scores": {"match": {"value": "C", "answer": "It is 4."}},
        }],
    })
}

fn read(log: &Value) -> Result<ForeignSuite, IngestError> {
    let name = "imported".parse().unwrap();
    let log = log.to_string();
    foreign_suite(Foreign::Inspect, (&log, Beside::default()), &name, Tier::Gate, None)
}

fn refusal(change: impl Fn(&mut Value)) -> String {
    let mut log = example();
    change(&mut log);
    read(&log).unwrap_err().to_string()
}

fn check(log: &Value) -> (String, String) {
    let check = &read(log).unwrap().suite.cases[0].checks[0];
    (check.scorer.name(), check.value.clone().unwrap())
}

#[test]
fn a_log_becomes_what_was_really_asked_with_its_answers() {
    let found = read(&example()).unwrap();
    let case = &found.suite.cases[0];
    assert_eq!(case.prompt, [Message::system("Be brief."), Message::user("2+2?")]);
    assert_eq!((case.id.as_str(), case.expected.as_str()), ("1", "4"));
    assert_eq!(case.provenance.as_deref(), Some("inspect sums r1"));
    assert_eq!(found.suite.scorers, [Scorer::Checks]);
    assert_eq!(found.answers, [("1".to_owned(), "It is 4.".to_owned())]);
}

#[test]
fn scorers_become_checks_that_hold_for_the_same_answers() {
    let with = |name: &str, options: Value, target: Value| {
        let mut log = example();
        log["eval"]["scorers"] = json!([{"name": name, "options": options}]);
        log["samples"][0]["target"] = target;
        check(&log)
    };
    let end = r"(?is)(?:4\.5)[\s\p{P}]*$";
    assert_eq!(with("match", json!({}), json!("4.5")), ("regex".to_owned(), end.to_owned()));
    let number = with("match", json!({"numeric": true}), json!("4"));
    assert_eq!(number, ("number".to_owned(), "4".to_owned()));
    let (_, any) = with("includes", json!({"ignore_case": false}), json!(["a", "b"]));
    assert_eq!(any, "(?s)(?:a|b)");
    assert_eq!(with("exact", json!(null), json!("Paris")).0, "normalized");
    let (_, choice) = with("choice", json!({}), json!("B"));
    assert!(choice.contains("answer") && choice.contains("(?:B)"), "{choice}");
    // What asks a model there asks a judge here; options that nobody set change nothing.
    let unset = json!({"template": null, "partial_credit": false});
    let (judge, holds) = with("inspect_ai/model_graded_fact", unset, json!("Paris"));
    assert_eq!((judge.as_str(), holds.contains("content of this one: Paris")), ("judge", true));
    // Older logs name no scorers, but say who scored.
    let mut log = example();
    log["eval"].as_object_mut().unwrap().remove("scorers");
    assert_eq!(check(&log).0, "regex");
}

#[test]
fn what_cannot_mean_the_same_is_refused_by_name() {
    let own = refusal(|log| {
        log["eval"]["scorers"][0] =
            json!({"name": "model_graded_qa", "options": {"template": "Grade {answer}"}});
    });
    assert!(own.contains("sample 1") && own.contains("its own `template`"), "{own}");
    let pattern = refusal(|log| log["eval"]["scorers"][0]["name"] = json!("pattern"));
    assert!(pattern.contains("`pattern` has no counterpart"), "{pattern}");
    let tools = refusal(|log| {
        log["samples"][0]["messages"][2]["tool_calls"] = json!([{"id": "1", "function": "f"}]);
    });
    assert!(tools.contains("several turns"), "{tools}");
    let turns = refusal(|log| {
        let again = log["samples"][0]["messages"][2].clone();
        log["samples"][0]["messages"].as_array_mut().unwrap().push(again);
    });
    assert!(turns.contains("several turns"), "{turns}");
    let image = refusal(|log| {
        log["samples"][0]["messages"][1]["content"] = json!([{"type": "image", "image": "x"}]);
    });
    assert!(image.contains("`image`"), "{image}");
    assert!(refusal(|log| log["version"] = json!(1)).contains("version 1"));
    assert!(refusal(|log| log["samples"][0]["messages"] = json!([])).contains("was it run"));
}

#[test]
fn later_epochs_are_repetitions_and_failed_samples_have_no_answer() {
    let mut log = example();
    let mut again = log["samples"][0].clone();
    again["epoch"] = json!(2);
    let mut failed = log["samples"][0].clone();
    (failed["id"], failed["error"]) = (json!("two"), json!({"message": "broke"}));
    log["samples"].as_array_mut().unwrap().extend([again, failed]);
    let found = read(&log).unwrap();
    let ids: Vec<&str> = found.suite.cases.iter().map(|case| case.id.as_str()).collect();
    assert_eq!((ids, found.answers.len()), (vec!["1", "two"], 1));
}

fn archive(method: CompressionMethod, files: &[(&str, String)]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let is_zstd = method == CompressionMethod::ZSTD;
    let written = if is_zstd { CompressionMethod::Stored } else { method };
    for (name, text) in files {
        let options = SimpleFileOptions::default().compression_method(written);
        zip.start_file(*name, options).unwrap();
        let bytes = if is_zstd {
            zstd::encode_all(text.as_bytes(), 3).unwrap()
        } else {
            text.clone().into_bytes()
        };
        zip.write_all(&bytes).unwrap();
    }
    let mut bytes = zip.finish().unwrap().into_inner();
    if is_zstd {
        name_the_method(&mut bytes);
    }
    bytes
}

/// Writes the number of zstd, 93, where the two headers of each file say that it is stored.
fn name_the_method(bytes: &mut [u8]) {
    for at in 0..bytes.len() - 12 {
        let offset = match &bytes[at..at + 4] {
            b"PK\x03\x04" => 8,
            b"PK\x01\x02" => 10,
            _ => continue,
        };
        bytes[at + offset] = 93;
    }
}

fn packed(method: CompressionMethod) -> Vec<u8> {
    let mut header = example();
    let sample = header.as_object_mut().unwrap().remove("samples").unwrap()[0].clone();
    let numbered = |id: u32| {
        let mut sample = sample.clone();
        sample["id"] = json!(id);
        (format!("samples/{id}_epoch_1.json"), sample.to_string())
    };
    let (ten, two) = (numbered(10), numbered(2));
    let files = [
        ("_journal/start.json", "{}".to_owned()),
        (ten.0.as_str(), ten.1),
        (two.0.as_str(), two.1),
        ("summaries.json", "[]".to_owned()),
        ("header.json", header.to_string()),
    ];
    archive(method, &files)
}

#[test]
fn an_archive_is_read_however_it_was_packed() {
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated, CompressionMethod::ZSTD]
    {
        let text = inspect_log(&packed(method)).unwrap();
        let found = read(&serde_json::from_str(&text).unwrap()).unwrap();
        let ids: Vec<&str> = found.suite.cases.iter().map(|case| case.id.as_str()).collect();
        assert_eq!(ids, ["2", "10"], "{method}");
    }
    let plain = example().to_string();
    assert_eq!(inspect_log(plain.as_bytes()).unwrap(), plain);
}

#[test]
fn a_damaged_or_boundless_archive_is_an_error() {
    let bytes = packed(CompressionMethod::Deflated);
    let torn = inspect_log(&bytes[..bytes.len() / 2]).unwrap_err().to_string();
    assert!(torn.contains("damaged"), "{torn}");
    assert!(unpacked(&bytes, 100).unwrap_err().contains("more than 100 bytes"));
    let headless = archive(CompressionMethod::Stored, &[("samples/1.json", "{}".to_owned())]);
    assert!(inspect_log(&headless).unwrap_err().to_string().contains("header.json"));
    assert!(inspect_log(&[0xff, 0xfe]).is_err());
}
