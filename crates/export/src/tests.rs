use std::{
    fs::{self, File},
    path::Path,
};

use ::parquet::{
    file::reader::{FileReader, SerializedFileReader},
    record::{Field, Row},
};
use serde_json::{Value, json};
use understudy_dataset::{FrozenDataset, Request, build};
use understudy_ident::{OutcomeId, StepId, TaskName, Timestamp, TrajectoryId};
use understudy_inference::{FinishReason, Sampling, Served, Timing, TokenRecord, Usage};
use understudy_manifest::Data;
use understudy_message::{Content, FunctionCall, Message, Part, ToolCall};
use understudy_trajectory::{JudgedStep, Outcome, Signal, Source, Step, Target, Trajectory};

use crate::{Arguments, ExportError, Format, export};

fn task() -> TaskName {
    "triage".parse().unwrap()
}

fn judged(nth: u32, prompt: Vec<Message>, reply: Message, signal: Signal) -> Trajectory {
    let name = format!("s{nth}");
    let step = Step {
        id: StepId::derived(&name),
        trajectory: TrajectoryId::derived(&name),
        task: task(),
        session: None,
        subject: None,
        metadata: std::collections::BTreeMap::new(),
        response_id: name.clone(),
        at: Timestamp::from_second(i64::from(nth)).unwrap(),
        prompt,
        reply,
        tools: Vec::new(),
        finish_reason: FinishReason::Stop,
        assignment: None,
        served: Served { base: "b".to_owned(), adapter: None },
        usage: Usage::default(),
        timing: Timing::default(),
        tokens: None,
        error: None,
    };
    let outcome = Outcome {
        id: OutcomeId::derived(&name),
        target: Target::Response(name),
        signal,
        source: Source::Explicit,
        at: Timestamp::from_second(9000).unwrap(),
        note: None,
        details: None,
    };
    let steps = vec![JudgedStep { step, outcomes: vec![outcome] }];
    Trajectory { id: steps[0].step.trajectory.clone(), steps }
}

/// Everything that rows may hold: parts, names, tool calls with other keys each, an answer of a
/// tool, text in several scripts, and a group with and without probabilities.
fn everything() -> Vec<Trajectory> {
    let call = |id: &str, arguments: &str| ToolCall {
        id: id.to_owned(),
        kind: "function".to_owned(),
        function: FunctionCall { name: "lookup".to_owned(), arguments: arguments.to_owned() },
    };
    let calling = |calls: Vec<ToolCall>| Message { tool_calls: calls, ..Message::assistant("") };
    let answered = Message {
        tool_call_id: Some("c1".to_owned()),
        ..Message::new(understudy_message::Role::Tool, r#"{"temperature": 21.5}"#)
    };
    let parts: Content = serde_json::from_value(json!([{"type": "text", "text": "Grüße, "},
            {"type": "text", "text": "世界 🦀\nline"}]))
    .unwrap();
    assert!(matches!(parts.parts(), [Part::Text(_), Part::Text(_)]));
    let spoken = Message { content: parts, name: Some("anna".to_owned()), ..Message::user("") };
    let weather = Message::user("weather in Paris?");
    let first = calling(vec![
        call("c1", r#"{"city": "Paris", "days": [1, 2]}"#),
        call("c2", r#"{"unit": null, "deep": {"er": 1e3}}"#),
        call("c3", "no json"),
    ]);
    let mut all = vec![
        judged(
            0,
            vec![Message::system("Be brief."), spoken],
            Message::assistant("Hallo"),
            Signal::Accept,
        ),
        judged(1, vec![weather.clone()], first.clone(), Signal::Accept),
        judged(
            2,
            vec![weather, first, answered],
            Message::assistant("It is 19.5 degrees"),
            Signal::Edit { text: "It is 21.5 degrees".to_owned() },
        ),
        judged(3, vec![Message::user("alone")], Message::assistant("no"), Signal::Abandon),
    ];
    let parameters = json!({"type": "object", "properties": {"days": {"enum": [1, null]}}});
    let function = json!({"name": "lookup", "parameters": parameters});
    all[1].steps[0].step.tools = vec![
        json!({"type": "function", "function": function}),
        json!({"type": "function", "function": {"name": "other", "strict": true}}),
    ];
    for (nth, reply, signal) in [(4, "good", Signal::Accept), (5, "bad", Signal::Abandon)] {
        let mut one = judged(nth, vec![Message::user("group")], Message::assistant(reply), signal);
        one.steps[0].step.tokens = Some(tokens(nth));
        all.push(one);
    }
    all
}

fn tokens(nth: u32) -> TokenRecord {
    TokenRecord {
        prompt_ids: vec![1, 2, 4_000_000_000],
        completion_ids: vec![nth, 7],
        sampling_logprobs: if nth == 4 { vec![-0.1, -2.25] } else { Vec::new() },
        forced: Vec::new(),
        logprobs_exact: nth == 4,
        base_digest: "b".to_owned(),
        tokenizer_digest: "t".to_owned(),
        template_digest: "c".to_owned(),
        sampling: Sampling::default(),
    }
}

fn freeze(root: &Path, trajectories: Vec<Trajectory>) -> FrozenDataset {
    freeze_with(root, Data::default(), trajectories)
}

fn freeze_with(root: &Path, data: Data, trajectories: Vec<Trajectory>) -> FrozenDataset {
    let (task, data) = (task(), Data { holdout: 0.3, min_verified: 0, ..data });
    let request = Request {
        task: &task,
        data: &data,
        seed: 3,
        sources: &["test".to_owned()],
        suites: &[],
        now: Timestamp::from_second(10_000).unwrap(),
    };
    build(request, trajectories).unwrap().freeze(root).unwrap()
}

fn parquet_rows(path: &Path) -> Vec<Value> {
    let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
    let rows = reader.get_row_iter(None).unwrap();
    rows.map(|row| record(&row.unwrap())).collect()
}

fn record(row: &Row) -> Value {
    row.get_column_iter().map(|(name, field)| (name.clone(), value(field))).collect()
}

fn value(field: &Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(truth) => json!(truth),
        Field::Long(integer) => json!(integer),
        Field::Double(number) => json!(number),
        Field::Str(text) => json!(text),
        Field::Group(row) => record(row),
        Field::ListInternal(list) => list.elements().iter().map(value).collect(),
        other => panic!("no column holds {other:?}"),
    }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A reader of Parquet says null for what a record lacks, and shows JSON as text.
fn as_columns(row: &Value, known: &Value) -> Value {
    match (row, known) {
        (Value::Array(row), Value::Array(known)) => {
            row.iter().zip(known).map(|(row, known)| as_columns(row, known)).collect()
        }
        (Value::Object(row), Value::Object(known)) => known
            .iter()
            .map(|(name, known)| {
                let value =
                    row.get(name).map_or(Value::Null, |value| match (name.as_str(), value) {
                        ("arguments" | "tools", value) => Value::String(value.to_string()),
                        (_, value) => as_columns(value, known),
                    });
                (name.clone(), value)
            })
            .collect(),
        (row, _) => row.clone(),
    }
}

#[test]
fn both_formats_hold_every_row_of_every_file() {
    let home = tempfile::tempdir().unwrap();
    let dataset = freeze(home.path(), everything());
    let trl = export(&dataset, Format::Trl, Arguments::Json, &home.path().join("trl")).unwrap();
    let columns =
        export(&dataset, Format::Parquet, Arguments::Json, &home.path().join("parquet")).unwrap();
    let mut compared = 0;
    for file in dataset.manifest().files.iter().filter(|file| file.rows > 0) {
        let stem = file.path.trim_end_matches(".jsonl");
        let told = parquet_rows(&columns.directory.join(format!("{stem}.parquet")));
        assert_eq!(told.len() as u64, file.rows);
        let source = if stem.starts_with("groups") { dataset.dir() } else { &trl.directory };
        for (row, told) in lines(&source.join(&file.path)).iter().zip(&told) {
            // f32 log-probabilities are doubles in both.
            assert_eq!(&as_columns(row, told), told, "{stem}");
            compared += 1;
        }
    }
    assert_eq!(compared, dataset.manifest().files.iter().map(|file| file.rows).sum::<u64>());
    assert!(compared >= 9, "{compared}");
    let groups: u64 = trl.left_out.values().sum();
    assert_eq!((groups, columns.left_out.len()), (1, 0));
}

#[test]
fn messages_are_what_chat_templates_expect() {
    let home = tempfile::tempdir().unwrap();
    let dataset = freeze(home.path(), everything());
    let rows = |arguments, name: &str| {
        let exported = export(&dataset, Format::Trl, arguments, &home.path().join(name)).unwrap();
        let files = exported.files.keys().filter(|file| file.starts_with("sft"));
        files.flat_map(|file| lines(&exported.directory.join(file))).collect::<Vec<_>>()
    };
    let json = rows(Arguments::Json, "json");
    let find = |rows: &[Value], pointer: &str| {
        rows.iter().filter_map(|row| row.pointer(pointer).cloned()).collect::<Vec<_>>()
    };
    assert!(find(&json, "/prompt/1/content").contains(&json!("Grüße, 世界 🦀\nline")));
    let arguments = |rows: &[Value], nth: u32| {
        find(rows, &format!("/completion/0/tool_calls/{nth}/function/arguments"))
    };
    assert_eq!(arguments(&json, 0), [json!({"city": "Paris", "days": [1, 2]})]);
    assert_eq!(arguments(&json, 2), [json!("no json")]);
    let text = rows(Arguments::Text, "text");
    assert_eq!(arguments(&text, 0), [json!(r#"{"city": "Paris", "days": [1, 2]}"#)]);
    // TRL takes the list as it is, and as text.
    let tools = find(&json, "/tools");
    assert_eq!(tools.len(), 1, "only one row has any");
    assert_eq!(tools[0][0]["function"]["name"], "lookup");
    assert_eq!(find(&text, "/tools"), [json!(tools[0].to_string())]);
}

/// TRL's prompt-only form: what was asked, and the tools there were, and no answer.
#[test]
fn prompts_have_no_answer_in_either_format() {
    let home = tempfile::tempdir().unwrap();
    let data = Data { prompts: true, ..Data::default() };
    let dataset = freeze_with(home.path(), data, everything());
    let mut told = Vec::new();
    for (format, extension) in [(Format::Trl, "jsonl"), (Format::Parquet, "parquet")] {
        let to = home.path().join(extension);
        let exported = export(&dataset, format, Arguments::Json, &to).unwrap();
        let files: Vec<_> =
            exported.files.keys().filter(|file| file.starts_with("prompts")).collect();
        let rows = files.iter().flat_map(|file| match format {
            Format::Trl => lines(&to.join(file)),
            Format::Parquet => parquet_rows(&to.join(file)),
        });
        let rows: Vec<Value> = rows.collect();
        assert_eq!(rows.iter().filter(|row| row["tools"].is_null()).count(), rows.len() - 1);
        assert!(rows.iter().all(|row| row.get("completion").is_none() && row["prompt"].is_array()));
        let asked = |row: &Value| {
            let messages = row["prompt"].as_array().unwrap();
            messages.last().unwrap()["content"].as_str().unwrap().to_owned()
        };
        told.push(rows.iter().map(asked).collect::<Vec<_>>());
    }
    assert_eq!(told[0], told[1]);
    assert_eq!(told[0].len(), 5, "one of every prompt: {told:?}");
}

/// TRL's trainers take the column of every row or of none.
#[test]
fn pairs_of_edits_have_a_margin_and_so_does_every_pair_beside_them() {
    let home = tempfile::tempdir().unwrap();
    let again = Signal::Regenerate { kept: Some("s8".to_owned()) };
    let asked = || vec![Message::user("And tomorrow?")];
    let mut all = everything();
    all.push(judged(7, asked(), Message::assistant("nobody knows"), again));
    all.push(judged(8, asked(), Message::assistant("It will rain"), Signal::Accept));
    let dataset = freeze(home.path(), all);
    for (format, extension) in [(Format::Trl, "jsonl"), (Format::Parquet, "parquet")] {
        let to = home.path().join(extension);
        let exported = export(&dataset, format, Arguments::Json, &to).unwrap();
        let pairs = exported.files.keys().filter(|file| file.starts_with("pairs"));
        let rows = pairs.flat_map(|file| match format {
            Format::Trl => lines(&to.join(file)),
            Format::Parquet => parquet_rows(&to.join(file)),
        });
        let mut margins: Vec<f64> = rows.map(|row| row["margin"].as_f64().unwrap()).collect();
        margins.sort_by(f64::total_cmp);
        // One of the six words and marks was changed.
        assert_eq!(margins.len(), 2);
        assert!((margins[0] - (1.0 / 6.0) / 0.3).abs() < 1e-9, "{margins:?}");
        assert_eq!(margins[1], 1.0, "a choice between two replies counts in full");
    }
}

#[test]
fn a_card_names_the_files_of_the_export_and_nothing_is_overwritten() {
    let home = tempfile::tempdir().unwrap();
    let dataset = freeze(home.path(), everything());
    let to = home.path().join("out");
    let exported = export(&dataset, Format::Parquet, Arguments::Json, &to).unwrap();
    let card = fs::read_to_string(to.join("README.md")).unwrap();
    assert!(card.contains("path: sft.train.parquet"), "{card}");
    assert!(!card.contains("path: sft.train.jsonl"), "{card}");
    let rows = exported.files["sft.train.parquet"];
    let bytes = fs::metadata(to.join("sft.train.parquet")).unwrap().len();
    assert!(card.contains(&format!("| sft.train.parquet | {rows} | {bytes} | `")), "{card}");
    let both = bytes + fs::metadata(to.join("sft.dev.parquet")).unwrap().len();
    assert!(card.contains(&format!("download_size: {both}\n")), "{card}");
    let lines = home.path().join("lines");
    let left_out = export(&dataset, Format::Trl, Arguments::Json, &lines).unwrap().left_out;
    assert!(left_out.contains_key("groups.train.jsonl"), "{left_out:?}");
    let card = fs::read_to_string(lines.join("README.md")).unwrap();
    assert!(!card.contains("config_name: groups"), "names a file that is not there: {card}");
    let manifest = fs::read(to.join("manifest.json")).unwrap();
    assert_eq!(manifest, fs::read(dataset.dir().join("manifest.json")).unwrap());
    let again = export(&dataset, Format::Trl, Arguments::Json, &to);
    assert!(matches!(again, Err(ExportError::Exists(_))), "{again:?}");
}

#[test]
fn a_file_that_changed_is_not_exported() {
    let home = tempfile::tempdir().unwrap();
    let dataset = freeze(home.path(), everything());
    let file = dataset.dir().join("sft.train.jsonl");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replacen("degrees", "degreez", 1).replacen("Hallo", "Holla", 1)).unwrap();
    let to = home.path().join("out");
    let failed = export(&dataset, Format::Parquet, Arguments::Json, &to);
    assert!(matches!(failed, Err(ExportError::Dataset(_))), "{failed:?}");
    assert!(!to.exists());
}

/// More rows than a row group holds.
#[test]
fn many_rows_are_several_row_groups() {
    let home = tempfile::tempdir().unwrap();
    let many = (0..9000).map(|nth| {
        let prompt = vec![Message::user(format!("question {nth}"))];
        judged(nth, prompt, Message::assistant(format!("answer {nth}")), Signal::Accept)
    });
    let dataset = freeze(home.path(), many.collect());
    let to = home.path().join("out");
    let exported = export(&dataset, Format::Parquet, Arguments::Json, &to).unwrap();
    let rows: u64 = exported.files.values().sum();
    assert_eq!(rows, 18_000);
    let answers = parquet_rows(&to.join("sft.train.parquet"));
    let lines = lines(&dataset.dir().join("sft.train.jsonl"));
    for (row, line) in answers.iter().zip(&lines) {
        assert_eq!(row["completion"][0]["content"], line["completion"][0]["content"]);
    }
    assert_eq!(answers.len(), lines.len());
}
