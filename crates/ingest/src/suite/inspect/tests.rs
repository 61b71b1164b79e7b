use std::io::Write;

use std::io::Cursor;

use serde_json::json;
use understudy_manifest::Tier;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::{archive::unpacked, *};
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
    taking(log, Take::Reply)
}

fn taking(log: &Value, take: Take) -> Result<ForeignSuite, IngestError> {
    let name = "imported".parse().unwrap();
    let (log, beside) = (log.to_string(), Beside { take, ..Beside::default() });
    foreign_suite(Foreign::Inspect, (&log, beside), &name, Tier::Gate, None)
}

/// A sample in which a tool was called before the answer, in two epochs, under a scorer of
/// somebody's own with two values, and a built-in one.
fn conversation() -> Value {
    let said = |looked: &str, told: &str, value: Value| {
        json!({
            "id": "ord-7", "epoch": 1, "input": "Where is order 7?", "target": "on its way",
            "messages": [
                {"role": "user", "content": "Where is order 7?", "source": "input"},
                {"role": "assistant", "content": "", "source": "generate",
                 "tool_calls": [{"id": "c1", "function": "orders_get", "arguments": {"id": 7}}]},
                {"role": "tool", "content": looked, "tool_call_id": "c1", "function": "orders_get"},
                {"role": "assistant", "source": "generate",
                 "content": [{"type": "reasoning", "reasoning": "sent"}, {"type": "text", "text": told}]},
            ],
            "output": {"completion": told},
            "scores": {"graded": {"value": value}, "includes": {"value": "C"}},
            "model_usage": {
                "local/small": {"input_tokens": 90, "output_tokens": 12, "total_tokens": 102},
                "openai/grader": {"input_tokens": 500, "output_tokens": 50, "total_tokens": 550},
            },
            "total_time": 1.5,
        })
    };
    let first = said("shipped", "It is on its way.", json!({"helpful": 0.5, "polite": true}));
    let mut second = said("lost", "It is on its way!", json!({"helpful": "P", "polite": null}));
    second["epoch"] = json!(2);
    json!({
        "version": 2, "status": "success",
        "eval": {
            "task": "orders", "run_id": "r2", "model": "local/small",
            "scorers": [{"name": "shop/graded"}, {"name": "includes"}],
            "config": {"epochs": 2, "epochs_reducer": ["mean", "max"]},
        },
        "samples": [second, first],
    })
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
    let answer = RecordedAnswer {
        scores: [("match".to_owned(), 1.0)].into(),
        ..RecordedAnswer::new("1", "It is 4.")
    };
    assert_eq!((found.answers, found.notes), (vec![answer], Vec::new()));
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
fn epochs_are_attempts_and_failed_samples_failed_ones() {
    let mut log = example();
    let mut again = log["samples"][0].clone();
    again["epoch"] = json!(2);
    again["messages"][2]["content"] = json!("It is 5.");
    again["output"]["completion"] = json!("It is 5.");
    let mut failed = log["samples"][0].clone();
    (failed["id"], failed["error"]) = (json!("two"), json!({"message": "broke"}));
    failed["messages"] = json!([]);
    log["samples"].as_array_mut().unwrap().extend([again, failed]);
    let found = read(&log).unwrap();
    let ids: Vec<&str> = found.suite.cases.iter().map(|case| case.id.as_str()).collect();
    assert_eq!(ids, ["1", "two"]);
    let answers = found.answers.iter();
    let told: Vec<_> = answers
        .map(|it| (it.id.as_str(), it.attempt, it.output.as_str(), it.error.as_deref()))
        .collect();
    let expected =
        [("1", 0, "It is 4.", None), ("1", 1, "It is 5.", None), ("two", 0, "", Some("broke"))];
    assert_eq!(told, expected);
    // What was asked otherwise is no repetition.
    log["samples"][1]["messages"][1]["content"] = json!("2+3?");
    assert!(read(&log).unwrap_err().to_string().contains("asked different things"));
}

#[test]
fn a_conversation_is_taken_whole_under_the_scores_of_its_log() {
    let found = taking(&conversation(), Take::Scores).unwrap();
    let names: Vec<String> = found.suite.scorers.iter().map(Scorer::name).collect();
    assert_eq!(names, ["recorded:graded.helpful", "recorded:graded.polite", "recorded:includes"]);
    let [case] = found.suite.cases.as_slice() else { panic!("{:?}", found.suite.cases) };
    assert_eq!((case.prompt.len(), case.prompt[0].text().as_str()), (1, "Where is order 7?"));
    let [first, second] = found.answers.as_slice() else { panic!("{:?}", found.answers) };
    assert_eq!((first.attempt, second.attempt), (0, 1));
    let steps: Vec<String> = first.steps.iter().map(Message::text).collect();
    assert_eq!(steps, ["", "shipped", "It is on its way."]);
    let call = &first.steps[0].tool_calls[0];
    assert_eq!(
        (call.function.name.as_str(), call.function.arguments.as_str()),
        ("orders_get", r#"{"id":7}"#)
    );
    assert_eq!(first.steps[1].tool_call_id.as_deref(), Some("c1"));
    let scores = |answer: &RecordedAnswer| {
        let one = |(name, score): (&String, &f64)| (name.clone(), *score);
        answer.scores.iter().map(one).collect::<Vec<_>>()
    };
    let named = |name: &str, score: f64| (name.to_owned(), score);
    let all = [named("graded.helpful", 0.5), named("graded.polite", 1.0), named("includes", 1.0)];
    assert_eq!(scores(first), all);
    assert_eq!(scores(second), [named("graded.helpful", 0.5), named("includes", 1.0)]);
    // The grader's tokens are not the model's.
    assert_eq!((first.prompt_tokens, first.completion_tokens, first.latency_ms), (90, 12, 1500.0));
    assert!(found.notes[0].contains("`max`") && found.notes.len() == 1, "{:?}", found.notes);
}

#[test]
fn a_conversation_s_last_reply_is_asked_after_all_that_was_said() {
    let mut log = conversation();
    log["eval"]["scorers"] = json!([{"name": "includes"}]);
    let found = taking(&log, Take::LastReply).unwrap();
    // The tool said something else in the second epoch, so that is another question.
    let ids: Vec<&str> = found.suite.cases.iter().map(|case| case.id.as_str()).collect();
    assert_eq!(ids, ["ord-7-epoch-1", "ord-7-epoch-2"]);
    let case = &found.suite.cases[1];
    assert_eq!(case.cluster.as_deref(), Some("ord-7"));
    let roles: Vec<_> = case.prompt.iter().map(|message| message.role.as_str()).collect();
    assert_eq!(
        (roles, case.prompt[2].text().as_str()),
        (vec!["user", "assistant", "tool"], "lost")
    );
    assert_eq!(found.answers[1].output, "It is on its way!");
    assert_eq!((found.answers[1].prompt_tokens, found.answers[1].scores.len()), (0, 0));
    // The same conversation twice is one question with two attempts.
    log["samples"][0]["messages"][2]["content"] = json!("shipped");
    let found = taking(&log, Take::LastReply).unwrap();
    assert_eq!((found.suite.cases.len(), found.answers[1].attempt), (1, 1));
    assert_eq!(found.suite.cases[0].cluster, None);
}

#[test]
fn replies_that_the_dataset_brought_belong_to_the_question() {
    let mut log = example();
    let shots = json!([
        {"role": "user", "content": "1+1?", "source": "input"},
        {"role": "assistant", "content": "attachment://a1", "source": "input"},
    ]);
    let rest = log["samples"][0]["messages"].as_array().unwrap()[1..].to_vec();
    let all = [shots.as_array().unwrap().clone(), rest].concat();
    log["samples"][0]["messages"] = json!(all);
    log["samples"][0]["attachments"] = json!({"a1": "2"});
    let found = read(&log).unwrap();
    let texts: Vec<String> = found.suite.cases[0].prompt.iter().map(Message::text).collect();
    assert_eq!(texts, ["1+1?", "2", "2+2?"]);
    log["samples"][0]["attachments"] = json!({});
    assert!(read(&log).unwrap_err().to_string().contains("attachment `a1`"));
}

#[test]
fn scores_that_are_none_of_ours_are_refused_and_what_was_not_scored_has_none() {
    let with = |value: Value| {
        let mut log = example();
        log["samples"][0]["scores"]["match"]["value"] = value;
        taking(&log, Take::Scores)
    };
    assert!(with(json!(7)).unwrap_err().to_string().contains("is 7, and scores here"));
    assert!(with(json!("B+")).unwrap_err().to_string().contains("is no number"));
    assert!(with(json!(null)).unwrap_err().to_string().contains("no sample has a score"));
    for (value, score) in [(json!("N"), 0.0), (json!("yes"), 1.0), (json!("0.25"), 0.25)] {
        let found = with(value).unwrap();
        assert_eq!(found.answers[0].scores["match"], score);
    }
    // Python writes numbers that JSON does not have; in a text they are a text.
    let mut log = example();
    log["samples"][0]["messages"][2]["content"] = json!("NaN \"-Infinity\\");
    log["samples"][0]["output"]["completion"] = json!("NaN \"-Infinity\\");
    let text =
        log.to_string().replace(r#""value":"C""#, r#""value":NaN,"metadata":{"low":-Infinity}"#);
    let plain: Value = serde_json::from_str(&inspect_log(text.as_bytes()).unwrap()).unwrap();
    let found = read(&plain).unwrap();
    assert_eq!(found.answers, [RecordedAnswer::new("1", "NaN \"-Infinity\\")]);
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
