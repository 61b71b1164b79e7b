//! `understudy eval` on answers that were given before: reports, exit codes, and what a suite knows
//! of the decisions it made and the rows that have seen it.

use std::{fs, path::Path, process::Output};

use serde_json::{Value, json};

use crate::cli::{text, understudy};

const WORDS: [&str; 6] = ["parcel", "invoice", "password", "refund", "address", "upgrade"];

fn question(n: usize) -> String {
    format!("please help me with my {} number {n} of the {}th month", WORDS[n % 6], n % 7)
}

/// A directory with a gate suite of sixty cases, and answers that are right on the first `right`.
fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    write(home.path(), "cases.jsonl", 0..60, |n| json!({"q": question(n), "a": WORDS[n % 6]}));
    for right in [20, 50] {
        write(home.path(), &format!("right-{right}.jsonl"), 0..60, |n| {
            let output = if n < right { WORDS[n % 6] } else { "no <idea>" };
            json!({"id": format!("{:04}", n + 1), "output": output})
        });
    }
    import(home.path(), "quiz", "gate");
    home
}

fn write(home: &Path, name: &str, rows: std::ops::Range<usize>, row: impl Fn(usize) -> Value) {
    let lines: Vec<String> = rows.map(|n| row(n).to_string()).collect();
    fs::write(home.join(name), lines.join("\n")).unwrap();
}

fn import(home: &Path, name: &str, tier: &str) -> Value {
    let arguments = [
        "suite",
        "import",
        "cases.jsonl",
        "--name",
        name,
        "--tier",
        tier,
        "--input",
        "q",
        "--output",
        "a",
        "--scorer",
        "exact",
        "--scorer",
        "no_refusal",
        "--json",
    ];
    let output = understudy(home, &arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn eval(home: &Path, candidate: &str, baseline: &str, extra: &[&str]) -> Output {
    let common = ["eval", candidate, "--suite", "quiz", "--baseline", baseline];
    understudy(home, &[&common, extra].concat())
}

const REPORTS: [&str; 8] = [
    "--report",
    "json=r.json",
    "--report",
    "junit=r.xml",
    "--report",
    "markdown=r.md",
    "--report",
    "html=r.html",
];

#[test]
fn recorded_answers_make_every_report_and_the_same_bytes_again() {
    let read = |home: &Path| {
        let output = eval(home, "right-50.jsonl", "right-20.jsonl", &REPORTS);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        ["r.json", "r.xml", "r.md", "r.html"]
            .map(|name| fs::read_to_string(home.join(name)).unwrap())
    };
    let (one, other) = (home(), home());
    let [json, junit, markdown, html] = read(one.path());
    assert_eq!(read(other.path()), [json.clone(), junit.clone(), markdown.clone(), html.clone()]);

    let value: Value = serde_json::from_str(&json).unwrap();
    let primary = &value["report"]["comparisons"][0];
    assert_eq!((&primary["wins"], &primary["losses"]), (&30.into(), &0.into()));
    assert!(primary["minimum_detectable"].as_f64().unwrap() > 0.0);
    assert_eq!(value["cases"].as_array().unwrap().len(), 60);
    assert!(junit.contains("tests=\"60\" failures=\"0\""), "{junit}");
    assert!(markdown.contains("gate passed") && markdown.contains("30 / 0 / 30"), "{markdown}");
    assert!(html.contains("no &lt;idea&gt;") || html.contains("&lt;</ins>"), "escaped");
}

#[test]
fn the_exit_status_is_the_decision() {
    let home = home();
    let code = |candidate, baseline| eval(home.path(), candidate, baseline, &[]).status.code();
    assert_eq!(code("right-50.jsonl", "right-20.jsonl"), Some(0));
    assert_eq!(code("right-20.jsonl", "right-50.jsonl"), Some(1));
    fs::copy(home.path().join("right-20.jsonl"), home.path().join("again.jsonl")).unwrap();
    assert_eq!(code("again.jsonl", "right-20.jsonl"), Some(3));
    for (extra, word) in [
        (&["--report", "pdf=x"][..], "json, junit, markdown or html"),
        (&["--report", "html"], "FORMAT=PATH"),
        (&["--verdict", "best"], "non_inferior"),
        (&["--examples", "quiz"], "quiz"),
    ] {
        let output = eval(home.path(), "right-50.jsonl", "right-20.jsonl", extra);
        assert_eq!(output.status.code(), Some(2), "{extra:?}");
        assert!(text(&output.stderr).contains(word), "{}", text(&output.stderr));
    }
    let output = eval(home.path(), "cases.jsonl", "right-20.jsonl", &[]);
    assert!(text(&output.stderr).contains("line 1"), "{}", text(&output.stderr));
}

#[test]
fn a_suite_counts_its_decisions_and_a_sealed_one_shows_no_case() {
    let home = home();
    eval(home.path(), "right-50.jsonl", "right-20.jsonl", &[]);
    let decisions = || {
        let output = understudy(home.path(), &["suite", "show", "quiz", "--json"]);
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["decisions"].clone()
    };
    assert_eq!(decisions(), 1);
    let count = home.path().join(".understudy/suites/consultations.json");
    let many = fs::read_to_string(&count).unwrap().replace(":1}", ":20}");
    fs::write(&count, many).unwrap();
    let output = eval(home.path(), "right-50.jsonl", "right-20.jsonl", &[]);
    assert!(text(&output.stdout).contains("decision 21"), "{}", text(&output.stdout));
    assert_eq!(decisions(), 21);

    import(home.path(), "sealed", "sealed");
    let arguments = [
        "eval",
        "right-50.jsonl",
        "--suite",
        "sealed",
        "--baseline",
        "right-20.jsonl",
        "--report",
        "html=sealed.html",
        "--json",
    ];
    let output = understudy(home.path(), &arguments);
    let page = fs::read_to_string(home.path().join("sealed.html")).unwrap();
    for shown in [page, text(&output.stdout)] {
        assert!(!shown.contains("please help") && !shown.contains("idea"), "{shown}");
    }
}

#[test]
fn look_up_stands_beside_the_subjects_and_seen_cases_are_told() {
    let home = home();
    // Training rows: other questions, and five that a later suite will ask.
    write(home.path(), "rows.jsonl", 55..140, |n| json!({"q": question(n), "a": WORDS[n % 6]}));
    let recipe = "schema = 1\ntask = \"help\"\nbase = \"smollm2-135m-instruct\"\n\
                  [data]\nmin_verified = 5\n[[train]]\nmethod = \"sft\"\n";
    fs::write(home.path().join("help.toml"), recipe).unwrap();
    let rows = [
        "import",
        "rows.jsonl",
        "--task",
        "help",
        "--format",
        "rows",
        "--input",
        "q",
        "--output",
        "a",
    ];
    assert!(understudy(home.path(), &rows).status.success());
    fs::remove_dir_all(home.path().join(".understudy/suites")).unwrap();
    let built = understudy(home.path(), &["dataset", "build", "help.toml"]);
    assert!(built.status.success(), "{}", text(&built.stderr));
    let built = text(&built.stdout);
    let version = built.lines().find(|line| line.starts_with("help@")).unwrap().trim().to_owned();

    let findings = import(home.path(), "quiz", "gate")["findings"].to_string();
    assert!(findings.contains(&version) && findings.contains("no adapter"), "{findings}");
    let extra = ["--examples", version.as_str(), "--answers", "kept", "--json"];
    let output = eval(home.path(), "right-50.jsonl", "right-20.jsonl", &extra);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["subjects"][0]["name"], "nearest example");
    assert!(report["subjects"][0]["scores"]["exact"]["mean"].as_f64().unwrap() > 0.5, "{report}");
    // What was kept can be compared again.
    assert_eq!(
        eval(home.path(), "kept/candidate.jsonl", "kept/baseline.jsonl", &[]).status.code(),
        Some(0)
    );
}

#[test]
fn a_run_of_another_program_is_a_suite_and_a_subject() {
    let home = tempfile::tempdir().unwrap();
    write(home.path(), "samples.jsonl", 0..30, |n| {
        let reply = if n < 15 { WORDS[n % 6] } else { "none" };
        json!({"doc_id": n, "target": WORDS[n % 6], "arguments": [[question(n), {"until": []}]],
            "filtered_resps": [reply]})
    });
    let import = [
        "suite",
        "import",
        "samples.jsonl",
        "--name",
        "quiz",
        "--tier",
        "dev",
        "--format",
        "lm-eval",
        "--answers",
        "old.jsonl",
    ];
    let output = understudy(home.path(), &import);
    assert!(output.status.success(), "{}", text(&output.stderr));
    write(
        home.path(),
        "new.jsonl",
        0..30,
        |n| json!({"id": n.to_string(), "output": WORDS[n % 6]}),
    );
    let output = eval(home.path(), "new.jsonl", "old.jsonl", &["--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["comparisons"][0]["wins"], 15);
    assert_eq!(report["consultation"], Value::Null, "anybody may look at a dev suite");
    let unknown = [&import[..7], &["--format", "deepeval"]].concat();
    let output = understudy(home.path(), &unknown);
    assert!(text(&output.stderr).contains("promptfoo"), "{}", text(&output.stderr));
}
