//! Versions on their way out: exported, explained, erased.

use std::{fs, path::Path};

use serde_json::{Value, json};
use understudy_ident::{OutcomeId, StepId, Timestamp, TrajectoryId};
use understudy_inference::{FinishReason, Served, Timing, Usage};
use understudy_message::Message;
use understudy_trajectory::{Outcome, Signal, Source, Step, Target};

use crate::{
    cli::{text, understudy},
    release::{Home, code, lineage, ok, refused},
};

const SECRET: &str = "Zebrafish-Genome-4711";

/// Two users, of whom one says what is easy to look for.
fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let mut lines = Vec::new();
    for nth in 0..40 {
        let (subject, word) = if nth % 4 == 0 { ("rosalind", SECRET) } else { ("maurice", "dna") };
        let name = format!("{subject} {nth}");
        let step = Step {
            id: StepId::derived(&name),
            trajectory: TrajectoryId::derived(&name),
            task: "quiz".parse().unwrap(),
            session: Some(name.clone()),
            subject: Some(subject.to_owned()),
            metadata: std::collections::BTreeMap::new(),
            response_id: format!("chatcmpl-{nth}"),
            at: Timestamp::from_second(1_700_000_000 + nth).unwrap(),
            prompt: vec![Message::user(format!("{word} question {nth}"))],
            reply: Message::assistant(format!("{word} answer {nth}")),
            tools: Vec::new(),
            finish_reason: FinishReason::Stop,
            assignment: None,
            served: Served { base: "other".to_owned(), adapter: None },
            usage: Usage::default(),
            timing: Timing::default(),
            tokens: None,
            error: None,
        };
        let outcome = Outcome {
            id: OutcomeId::derived(&name),
            target: Target::Response(step.response_id.clone()),
            signal: Signal::Edit { text: format!("{word} edit {nth}") },
            source: Source::Explicit,
            at: Timestamp::from_second(1_700_000_100 + nth).unwrap(),
            note: None,
            details: None,
        };
        lines.push(json!({"step": step}).to_string());
        lines.push(json!({"outcome": outcome}).to_string());
    }
    fs::write(home.path().join("recorded.jsonl"), lines.join("\n")).unwrap();
    let recipe = "schema = 1\ntask = \"quiz\"\nbase = \"smollm2-135m-instruct\"\n\
                  [data]\nmin_verified = 5\n[[train]]\nmethod = \"sft\"\n";
    fs::write(home.path().join("quiz.toml"), recipe).unwrap();
    let said = run(home.path(), &["import", "recorded.jsonl", "--task", "quiz"]);
    assert_eq!(said["added"], 80);
    fs::remove_file(home.path().join("recorded.jsonl")).unwrap();
    home
}

/// A command that succeeds, and what it says to machines.
fn run(home: &Path, arguments: &[&str]) -> Value {
    let output = understudy(home, &[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn versions(home: &Path) -> Vec<String> {
    let listed = run(home, &["dataset", "list"]);
    listed.as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect()
}

fn built(home: &Path) -> String {
    run(home, &["dataset", "build", "quiz.toml"]);
    versions(home).pop().unwrap()
}

/// Every file below a directory that holds these bytes.
fn holding(directory: &Path, what: &str) -> Vec<String> {
    let (mut found, mut open) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if fs::read(&path).unwrap().windows(what.len()).any(|w| w == what.as_bytes()) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

#[test]
fn a_version_is_exported_in_either_format_and_never_over_something() {
    let home = home();
    let version = built(home.path());
    for (format, extension) in [("trl", "jsonl"), ("parquet", "parquet")] {
        let to = format!("out-{format}");
        let said = run(home.path(), &["dataset", "export", &version, &to, "--format", format]);
        let rows: u64 =
            said["files"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
        assert_eq!(rows, 80, "a row to imitate and a pair of each edit");
        let file = home.path().join(&to).join(format!("sft.train.{extension}"));
        assert!(file.is_file(), "{}", file.display());
        assert!(home.path().join(&to).join("README.md").is_file());
    }
    let again = understudy(home.path(), &["dataset", "export", &version, "out-trl"]);
    assert_eq!(again.status.code(), Some(2));
    assert!(text(&again.stderr).contains("exists already"), "{}", text(&again.stderr));
}

#[test]
fn what_another_task_adds_to_the_journal_renames_no_version() {
    let home = home();
    let version = built(home.path());
    let other = json!({"messages": [{"role": "user", "content": "hi"},
        {"role": "assistant", "content": "ho"}]});
    fs::write(home.path().join("other.jsonl"), other.to_string()).unwrap();
    run(home.path(), &["import", "other.jsonl", "--task", "another", "--format", "openai"]);
    assert_eq!(built(home.path()), version);
    assert_eq!(versions(home.path()), [version.as_str()]);
    let shown = understudy(home.path(), &["dataset", "show", &version]);
    assert!(text(&shown.stdout).contains("built first of journal up to record"));
    assert_eq!(run(home.path(), &["dataset", "review", "quiz.toml"]), json!([]));
}

#[test]
fn a_record_is_explained_by_version_and_by_recipe() {
    let home = home();
    let version = built(home.path());
    let told = run(home.path(), &["dataset", "explain", "chatcmpl-5", "--recipe", "quiz.toml"]);
    assert_eq!(told["rows"][0]["version"], version.as_str());
    assert_eq!(told["said"], json!(["edit"]));
    let stages: Vec<&str> =
        told["verdicts"].as_array().unwrap().iter().map(|v| v["stage"].as_str().unwrap()).collect();
    assert_eq!(stages[..4], ["select", "filter", "join", "build"]);
    assert_eq!(stages.last(), Some(&"split"));
    let outcome = OutcomeId::derived("maurice 5").to_string();
    let plain = understudy(home.path(), &["dataset", "explain", &outcome]);
    assert_eq!(plain.status.code(), Some(0));
    assert!(text(&plain.stdout).contains("because of edit"), "{}", text(&plain.stdout));
    let missing = understudy(home.path(), &["dataset", "explain", "chatcmpl-99"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing.stderr).contains("the journal has no"), "{}", text(&missing.stderr));
}

#[test]
fn an_erased_person_is_in_no_file_and_everybody_else_is_where_they_were() {
    let home = home();
    let version = built(home.path());
    run(home.path(), &["dataset", "export", &version, "copy"]);
    run(home.path(), &["dataset", "export", &version, "changed"]);
    fs::remove_file(home.path().join("changed/manifest.json")).unwrap();
    assert!(holding(home.path(), SECRET).len() >= 6);
    let erase = |extra: &[&str]| {
        let arguments = [&["dataset", "erase", "--subject", "rosalind"], extra].concat();
        run(home.path(), &arguments)
    };
    let dry = erase(&["--dry-run"]);
    assert_eq!((&dry["steps"], &dry["outcomes"]), (&json!(10), &json!(10)));
    assert_eq!(versions(home.path()), std::slice::from_ref(&version), "nothing happened yet");

    let receipt = erase(&["--reason", "as asked"]);
    assert_eq!((&receipt["steps"], &receipt["outcomes"]), (&json!(10), &json!(10)));
    assert_eq!(receipt["versions"][0]["version"], version.as_str());
    assert_eq!(receipt["versions"][0]["rows"], 20);
    let successor = receipt["versions"][0]["successor"].as_str().unwrap();
    assert_eq!(versions(home.path()), [successor]);
    assert!(!home.path().join("copy").exists());
    let left = receipt["copies_left"].as_array().unwrap();
    assert!(left[0].as_str().unwrap().ends_with("changed"), "{receipt}");
    fs::remove_dir_all(home.path().join("changed")).unwrap();
    assert_eq!(holding(home.path(), SECRET), Vec::<String>::new());
    assert_eq!(holding(home.path(), "rosalind"), Vec::<String>::new());
    let shown = run(home.path(), &["dataset", "show", successor]);
    let rows: u64 =
        shown["files"].as_array().unwrap().iter().map(|f| f["rows"].as_u64().unwrap()).sum();
    assert_eq!(rows, 60);
    let gone = understudy(home.path(), &["dataset", "show", &version]);
    assert!(text(&gone.stderr).contains(successor), "{}", text(&gone.stderr));
    // A build from what is left has the same rows; the audit chain knows what was withdrawn.
    let rebuilt = run(home.path(), &["dataset", "build", "quiz.toml"]);
    let count = |file: &Value| file["rows"].as_u64().unwrap();
    assert_eq!(rebuilt["files"].as_array().unwrap().iter().map(count).sum::<u64>(), 60);
    let chain = text(&understudy(home.path(), &["audit", "show", "--json"]).stdout);
    assert!(chain.contains(&version) && chain.contains("as asked"), "{chain}");
    let nobody =
        understudy(home.path(), &["dataset", "erase", "--subject", "francis", "--dry-run"]);
    assert_eq!(nobody.status.code(), Some(1));
}

#[test]
fn a_signed_receipt_holds_and_what_learnt_from_the_person_is_not_promoted() {
    let home = home();
    let version = built(home.path());
    let mut of = lineage();
    of.dataset.version = version.parse().unwrap();
    let home = Home::within(home);
    let learnt = home.trained("learnt", &of);
    let elsewhere = home.trained("elsewhere", &lineage());
    home.ramping(&learnt);

    // A key that cannot sign is found before anything is gone.
    let erase = "dataset erase --subject rosalind --reason asked";
    let no_key = home.run(&format!("{erase} --key key.pub.pem"));
    assert_eq!(code(&no_key), 2);
    assert!(text(&no_key.stderr).contains("nothing was erased"), "{}", text(&no_key.stderr));
    assert_eq!(home.json("dataset list"), json!([version]));

    let receipt = home.json(&format!("{erase} --key key.pem"));
    assert_eq!(receipt["tainted"], json!([learnt]), "{elsewhere} never saw them");
    let signed = receipt["signed"].as_str().unwrap().to_owned();
    let verify = format!("dataset receipt {signed} --key key.pub.pem");
    let verified = home.json(&format!("{verify} --subject rosalind"));
    assert_eq!(verified["broken"], json!([]));
    assert_eq!(verified["receipt"]["steps"], 10);
    assert!(!fs::read_to_string(&signed).unwrap().contains("rosalind"));

    // Promotion is refused by the policy, also for who forces it; so is a start.
    refused(&home.by("ada", "release promote quiz"), "was withdrawn");
    let forced = ["release", "promote", "quiz", "--force", "--owner", "ada", "--reason"];
    let forced = understudy(
        &home.at(""),
        &[&forced[..], &["there is no time for a clean training run"]].concat(),
    );
    refused(&forced, "was withdrawn");
    assert_eq!(home.json("adapter show quiz@1")["tainted"]["dataset"], version.as_str());
    assert_eq!(home.json("adapter show quiz@2")["tainted"], Value::Null);

    // About somebody else; changed; signed by somebody else.
    refused_of(&home.run(&format!("{verify} --subject maurice")), "about somebody else");
    let bundle: Value = serde_json::from_str(&fs::read_to_string(&signed).unwrap()).unwrap();
    let mut changed = bundle.clone();
    let payload = bundle["dsseEnvelope"]["payload"].as_str().unwrap();
    changed["dsseEnvelope"]["payload"] = json!(format!("{}A{}", &payload[..9], &payload[10..]));
    fs::write(home.at("changed.sig"), changed.to_string()).unwrap();
    refused(&home.run("dataset receipt changed.sig --key key.pub.pem"), "does not fit");
    ok(&home.run("adapter sign learnt --key key.pem --out other.sig"));
    assert_eq!(code(&home.run("dataset receipt other.sig --key key.pub.pem")), 2);

    // What was undone since is said: the tombstone is gone.
    let (name, digest) = version.split_once('@').unwrap();
    let tombstone = home.at(".understudy/datasets").join(name).join(digest).join("erased.json");
    fs::remove_file(tombstone).unwrap();
    refused_of(&home.run(&verify), "has no tombstone");
    ok(&home.run(&format!("{verify} --elsewhere")));
}

/// Exit code 1, and an answer that holds these words.
fn refused_of(output: &std::process::Output, words: &str) {
    assert_eq!(code(output), 1, "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains(words), "{}", text(&output.stdout));
}

#[test]
fn who_was_in_a_version_that_is_gone_for_somebody_else_is_found_in_what_learnt_from_it() {
    let home = home();
    let version = built(home.path());
    let mut of = lineage();
    of.dataset.version = version.parse().unwrap();
    let home = Home::within(home);
    let learnt = home.trained("learnt", &of);
    let first = home.json("dataset erase --subject rosalind");
    // Unsigned without a key; with one in the data directory, signed.
    assert_eq!(first["signed"], Value::Null);
    fs::copy(home.at("key.pem"), home.at(".understudy/receipts.pem")).unwrap();
    let second = home.json("dataset erase --subject maurice");
    assert_eq!(second["versions"][0]["version"], first["versions"][0]["successor"]);
    assert_eq!(second["tainted"], json!([learnt]));
    let signed = second["signed"].as_str().unwrap();
    ok(&home.run(&format!("dataset receipt {signed} --key key.pub.pem --subject maurice")));
}
