//! Evaluations that were killed, cases from trajectories that went wrong, and live scores.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::cli::{text, understudy};

fn base() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/model/llama")
}

fn run(home: &Path, arguments: &[&str]) -> Value {
    let output = understudy(home, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

fn lines(home: &Path, name: &str, rows: impl Iterator<Item = Value>) {
    let rows: Vec<String> = rows.map(|row| row.to_string()).collect();
    fs::write(home.join(name), rows.join("\n")).unwrap();
}

const CASES: usize = 160;

fn kept(home: &Path) -> usize {
    fs::read_to_string(home.join(".understudy/answers/answers.log"))
        .map_or(0, |text| text.lines().count())
}

fn import_quiz(home: &Path) {
    run(
        home,
        &[
            "suite",
            "import",
            "cases.jsonl",
            "--name",
            "quiz",
            "--tier",
            "dev",
            "--input",
            "q",
            "--output",
            "a",
            "--scorer",
            "exact",
        ],
    );
}

#[test]
fn an_evaluation_that_was_killed_asks_only_for_what_is_missing() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    lines(home, "cases.jsonl", (0..CASES).map(|n| json!({"q": format!("question {n}"), "a": "x"})));
    let answer = |n: usize| json!({"id": format!("{:04}", n + 1), "output": "x"});
    lines(home, "old.jsonl", (0..CASES).map(answer));
    import_quiz(home);
    let base = base().display().to_string();
    let eval = |extra: &[&str]| {
        let common = [
            "eval",
            "base",
            "--suite",
            "quiz",
            "--baseline",
            "old.jsonl",
            "--base",
            &base,
            "--max-new-tokens",
            "48",
            "--report",
            "json=report.json",
            "--answers",
            "answers",
        ];
        let mut command = Command::new(env!("CARGO_BIN_EXE_understudy"));
        command.current_dir(home).env_remove("UNDERSTUDY_DATA_DIR").args(common).args(extra);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let mut killed = eval(&[]).spawn().unwrap();
    let begun = Instant::now();
    while kept(home) < 8 {
        assert!(begun.elapsed() < Duration::from_mins(2), "no answer came");
        std::thread::sleep(Duration::from_millis(2));
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    let before = kept(home);
    assert!(before < CASES, "it was done before it was killed");
    assert!(!home.join("report.json").exists());

    // The random model is right about nothing, so the gate says no.
    assert_eq!(eval(&[]).status().unwrap().code(), Some(1));
    // A torn last line is the one answer that may have been asked for twice.
    assert!((CASES..=CASES + 1).contains(&kept(home)), "{} answers after {before}", kept(home));
    let read = || {
        ["report.json", "answers/candidate.jsonl"].map(|name| fs::read(home.join(name)).unwrap())
    };
    let (first, so_far) = (read(), kept(home));
    assert_eq!(eval(&[]).status().unwrap().code(), Some(1));
    assert_eq!((read(), kept(home)), (first.clone(), so_far));

    // Asked again, it gives the same texts, and nothing is kept.
    assert_eq!(eval(&["--no-cache"]).status().unwrap().code(), Some(1));
    assert_eq!(kept(home), so_far);
    let outputs = |bytes: &[u8]| -> Vec<String> {
        let lines = std::str::from_utf8(bytes).unwrap().lines();
        lines
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["output"].to_string())
            .collect()
    };
    assert_eq!(outputs(&read()[1]), outputs(&first[1]));
}

/// A journal with one edited reply, and suites of each tier.
fn failed() -> (tempfile::TempDir, String) {
    let home = tempfile::tempdir().unwrap();
    let at = home.path();
    lines(
        at,
        "rows.jsonl",
        [json!({
            "q": "my invoice of march never came, write to ada@example.org", "a": "billing"
        })]
        .into_iter(),
    );
    let rows = ["--task", "triage", "--format", "rows", "--input", "q", "--output", "a"];
    run(at, &[&["import", "rows.jsonl"], &rows[..]].concat());
    lines(
        at,
        "cases.jsonl",
        (0..3).map(|n| json!({"q": format!("where is parcel {n} now"), "a": "delivery"})),
    );
    for tier in ["dev", "gate", "sealed"] {
        run(
            at,
            &[
                "suite",
                "import",
                "cases.jsonl",
                "--name",
                tier,
                "--tier",
                tier,
                "--input",
                "q",
                "--output",
                "a",
                "--scorer",
                "exact",
            ],
        );
    }
    let id = trajectory(at);
    (home, id)
}

/// The only trajectory of the journal, as another command names it.
fn trajectory(home: &Path) -> String {
    use understudy_journal::{Config, Journal, Query};
    let journal = Journal::open(&home.join(".understudy/journal.db"), Config::default()).unwrap();
    let found = journal.trajectories(&Query::default()).unwrap();
    assert_eq!(found.len(), 1);
    found[0].id.to_string()
}

fn add(home: &Path, suite: &str, id: &str, extra: &[&str]) -> (Option<i32>, Value, String) {
    let common = [
        "suite",
        "add-case",
        suite,
        "--trajectory",
        id,
        "--reason",
        "it went to delivery",
        "--owner",
        "ada",
        "--json",
    ];
    let output = understudy(home, &[&common, extra].concat());
    let value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code(), value, text(&output.stderr))
}

#[test]
fn a_failure_becomes_a_case_of_the_next_version() {
    let (home, id) = failed();
    let home = home.path();
    let before = run(home, &["suite", "show", "dev", "--json"]);
    let right = ["--expected", "billing"];
    let (code, shown, why) = add(home, "dev", &id, &right);
    assert_eq!(code, Some(1), "{why}");
    assert_eq!((&shown["name"], &shown["made"]), (&json!("dev-v2"), &json!(false)));
    assert!(understudy(home, &["suite", "show", "dev-v2"]).status.code() == Some(2));

    let approved = [&right[..], &["--approve"]].concat();
    let (code, made, why) = add(home, "dev", &id, &approved);
    assert_eq!(code, Some(0), "{why}");
    assert_eq!((&made["cases"], &made["parent"]["digest"]), (&json!(4), &before["digest"]));
    let case = &made["case"];
    let asked = case["prompt"].as_array().unwrap().last().unwrap()["content"].as_str().unwrap();
    assert_eq!(asked, "my invoice of march never came, write to <EMAIL_1>");
    assert_eq!((&case["expected"], &case["risk"]), (&json!("billing"), &json!("known_failure")));
    let whence = case["provenance"].as_str().unwrap();
    assert!(whence.contains(&id) && whence.contains("by ada"), "{whence}");
    // The suite it was made of stays as it was.
    assert_eq!(run(home, &["suite", "show", "dev", "--json"])["digest"], before["digest"]);
    assert_eq!(run(home, &["suite", "show", "dev-v2", "--json"])["digest"], made["digest"]);
    let (code, _, why) = add(home, "dev-v2", &id, &approved);
    assert_eq!(code, Some(2));
    assert!(why.contains("has this case already"), "{why}");
}

#[test]
fn suites_that_decide_take_only_what_somebody_has_read() {
    let (home, id) = failed();
    let home = home.path();
    let approved = ["--expected", "billing", "--approve"];
    for tier in ["gate", "sealed"] {
        let (code, _, why) = add(home, tier, &id, &approved);
        assert_eq!(code, Some(2), "{why}");
        assert!(why.contains("--reviewed-by"), "{why}");
        let own = [&approved[..], &["--reviewed-by", "ada"]].concat();
        assert!(add(home, tier, &id, &own).2.contains("of their own"));
    }
    let (code, made, why) =
        add(home, "sealed", &id, &[&approved[..], &["--reviewed-by", "bob"]].concat());
    assert_eq!(code, Some(0), "{why}");
    assert_eq!(made["tier"], "sealed");
    // What lies open in a dev suite may go on to a gate.
    assert_eq!(add(home, "dev", &id, &approved).0, Some(0));
    assert_eq!(add(home, "gate", &id, &approved).0, Some(0));
    assert_eq!(add(home, "sealed", &id, &[&approved[..], &["--as", "other"]].concat()).0, Some(2));
}

#[test]
fn a_case_without_a_right_answer_or_trajectory_is_bad_input() {
    let (home, id) = failed();
    let home = home.path();
    let (code, _, why) = add(home, "dev", &id, &[]);
    assert_eq!(code, Some(2));
    assert!(why.contains("--expected or --checks"), "{why}");
    let checks = ["--checks", r#"[{"scorer": "contains", "value": "x"}]"#];
    assert!(add(home, "dev", &id, &checks).2.contains("reads no checks"));
    let (code, _, why) = add(home, "dev", "nobody", &["--expected", "x"]);
    assert_eq!(code, Some(2));
    assert!(why.contains("no trajectory `nobody`"), "{why}");
}

#[test]
fn what_was_served_is_scored_by_arm() {
    use std::io::{BufRead as _, BufReader};
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let config =
        "[live]\nshare = 1.0\nscorers = [\"json_valid\", \"no_refusal\", \"tokens:100000\"]\n";
    fs::write(home.join("understudy.toml"), config).unwrap();
    let mut process = Command::new(env!("CARGO_BIN_EXE_understudy"))
        .current_dir(home)
        .env_remove("UNDERSTUDY_DATA_DIR")
        .args(["serve", "--mock-engine", "--listen", "127.0.0.1:0", "--grpc", "off"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let url = line.split_whitespace().find(|word| word.starts_with("http")).unwrap();
    let url = url.trim_end_matches("/v1").to_owned();
    for n in 0..6 {
        let body = json!({"model": "mock", "max_tokens": 8,
            "messages": [{"role": "user", "content": format!("question {n}")}]});
        let reply = ureq::post(format!("{url}/v1/chat/completions")).send_json(body).unwrap();
        assert_eq!(reply.status(), 200);
    }
    let get = |path: &str| -> String {
        ureq::get(format!("{url}{path}")).call().unwrap().into_body().read_to_string().unwrap()
    };
    let begun = Instant::now();
    let report = loop {
        let report: Value = serde_json::from_str(&get("/api/v1/live")).unwrap();
        if report["scored"] == 6 {
            break report;
        }
        assert!(begun.elapsed() < Duration::from_mins(1), "{report}");
        std::thread::sleep(Duration::from_millis(100));
    };
    let row = |scorer: &str| {
        let rows = report["rows"].as_array().unwrap();
        rows.iter().find(|row| row["scorer"] == scorer).unwrap().clone()
    };
    assert_eq!(
        (&row("no_refusal")["mean"], &row("no_refusal")["scored"]),
        (&json!(1.0), &json!(6))
    );
    assert_eq!(row("json_valid")["mean"], 0.0);
    assert!(get("/metrics").contains("understudy_live_score{"));
    process.kill().unwrap();
    process.wait().unwrap();

    // The command reads the same from the journal.
    let again = run(home, &["live", "--json"]);
    assert_eq!((&again["rows"], &again["scored"]), (&report["rows"], &report["scored"]));
    let some = run(home, &["live", "--json", "--scorer", "latency:600000", "--since", "1d"]);
    assert_eq!(some["rows"][0]["mean"], 1.0);
    let refused = understudy(home, &["live", "--scorer", "exact"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("expected answer"), "{}", text(&refused.stderr));
}
