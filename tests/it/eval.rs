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
fn the_same_question_in_the_same_home_gives_the_same_bytes() {
    let home = home();
    let read = |extra: &[&str]| {
        eval(home.path(), "right-50.jsonl", "right-20.jsonl", &[&REPORTS, extra].concat());
        ["r.json", "r.xml", "r.md", "r.html"].map(|name| fs::read(home.path().join(name)).unwrap())
    };
    let first = read(&[]);
    assert_eq!(read(&[]), first, "who looks again is told the same");
    let number = |files: &[Vec<u8>; 4]| {
        let value: Value = serde_json::from_slice(&files[0]).unwrap();
        value["report"]["consultation"].clone()
    };
    assert_eq!(number(&first), 1);
    // Another seed or another limit is another question.
    assert_eq!(number(&read(&["--seed", "18"])), 2);
    assert_eq!(number(&read(&["--margin", "0.1"])), 3);
    assert_eq!(read(&[]), first);
}

#[test]
fn too_few_cases_excuse_nothing_but_the_verdict() {
    let home = home();
    // Thirty cases, the last of high risk and lost; another one is won, so nothing is clear.
    let mut lines = vec![
        json!({"schema": 1, "suite": "risky", "tier": "gate", "scorers": ["exact"]}).to_string(),
    ];
    for n in 0..30 {
        let mut case = json!({"id": format!("{n:04}"), "expected": WORDS[n % 6],
            "prompt": [{"role": "user", "content": question(n)}]});
        if n == 29 {
            case["risk"] = json!("high_risk");
        }
        lines.push(case.to_string());
    }
    fs::write(home.path().join("risky.jsonl"), lines.join("\n")).unwrap();
    let imported = understudy(
        home.path(),
        &["suite", "import", "risky.jsonl", "--name", "risky", "--tier", "gate"],
    );
    assert!(imported.status.success(), "{}", text(&imported.stderr));
    let answers = |name: &str, wrong: usize| {
        write(home.path(), name, 0..30, |n| {
            let output = if n == wrong { "none" } else { WORDS[n % 6] };
            json!({"id": format!("{n:04}"), "output": output})
        });
    };
    answers("old.jsonl", 0);
    answers("risk.jsonl", 29);
    answers("safe.jsonl", 1);
    let code = |candidate: &str| {
        let common = ["eval", candidate, "--suite", "risky", "--baseline", "old.jsonl"];
        understudy(home.path(), &common).status.code()
    };
    assert_eq!(code("safe.jsonl"), Some(3));
    assert_eq!(code("risk.jsonl"), Some(1));
}

#[test]
fn limits_of_a_recipe_can_be_set_on_the_command_line() {
    let home = home();
    let with = |name: &str, right: usize, ms: f64, tokens: u64| {
        write(home.path(), name, 0..60, |n| {
            let output = if n < right { WORDS[n % 6] } else { "none" };
            json!({"id": format!("{:04}", n + 1), "output": output, "latency_ms": ms,
                "prompt_tokens": 10, "completion_tokens": tokens})
        });
    };
    with("slow.jsonl", 50, 130.0, 12);
    with("quick.jsonl", 20, 100.0, 10);
    let failed = |extra: &[&str]| {
        let output = eval(home.path(), "slow.jsonl", "quick.jsonl", &[extra, &["--json"]].concat());
        let report: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", text(&output.stderr)));
        let checks = report["decision"]["checks"].as_array().unwrap().clone();
        let failed = checks.into_iter().filter(|check| check["passed"] == false);
        failed.map(|check| check["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert!(failed(&[]).is_empty());
    assert_eq!(failed(&["--latency-ratio-max", "1.1"]), ["latency"]);
    assert_eq!(failed(&["--latency-p95-ratio-max", "1.1"]), ["latency p95"]);
    assert_eq!(failed(&["--tokens-ratio-max", "1.05"]), ["tokens"]);
    assert!(failed(&["--tokens-ratio-max", "1.1", "--latency-ratio-max", "1.4"]).is_empty());
    assert_eq!(failed(&["--scorer", "no_refusal"]), ["verdict"], "both refuse nothing");
    for (extra, word) in [
        (["--known-failures-fixed", "1"], "0 cases of risk known_failure"),
        (["--tokens-ratio-max", "0"], "no ratio above 0"),
        (["--scorer", "vibes"], "unknown scorer"),
        (["--margin", "2"], "between 0 and 1"),
    ] {
        let output = eval(home.path(), "slow.jsonl", "quick.jsonl", &extra);
        assert_eq!(output.status.code(), Some(2), "{extra:?}");
        assert!(text(&output.stderr).contains(word), "{}", text(&output.stderr));
    }
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
    let many = fs::read_to_string(&count).unwrap().replace("\"count\":1", "\"count\":20");
    fs::write(&count, many).unwrap();
    let output = eval(home.path(), "right-20.jsonl", "right-50.jsonl", &[]);
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
    let kept = [&arguments[..6], &["--answers", "kept"]].concat();
    let refused = understudy(home.path(), &kept);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("is sealed"), "{}", text(&refused.stderr));
    assert!(!home.path().join("kept").exists());
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
    assert_eq!(report["subjects"][0]["name"], "most common reply");
    assert_eq!(report["subjects"][1]["name"], "nearest example");
    assert!(report["subjects"][1]["scores"]["exact"]["mean"].as_f64().unwrap() > 0.5, "{report}");
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

#[test]
fn several_attempts_and_missing_evidence_are_said_before_anybody_answers() {
    let home = home();
    for (extra, word) in [
        (&["--repeats", "4"][..], "set a temperature"),
        (&["--temperature", "0.7"], "ask for 3 to 100"),
        (&["--repeats", "2", "--temperature", "0.7"], "ask for 3 to 100"),
        (&["--scorer", "cost:10"], "needs prices of tokens"),
        (&["--scorer", "cost:10", "--input-usd-per-million", "1"], "--output-usd-per-million"),
    ] {
        let output = eval(home.path(), "base", "right-20.jsonl", extra);
        assert_eq!(output.status.code(), Some(2), "{extra:?}");
        assert!(text(&output.stderr).contains(word), "{}", text(&output.stderr));
    }
    let sampled = ["--repeats", "3", "--temperature", "0.7", "--mock-engine", "--json"];
    let output = eval(home.path(), "base", "right-20.jsonl", &sampled);
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", text(&output.stderr)));
    assert_eq!(report["subjects"][1]["attempts"]["each"], 3);
    let conditions = &report["subjects"][1]["conditions"];
    assert!(conditions["temperature"].as_f64().unwrap() > 0.6, "{conditions}");
    assert_eq!(conditions["max_new_tokens"], 128);
    // Nobody says what a base was trained on.
    let note = report["notes"][0].as_str().unwrap();
    assert!(note.contains("no trivial baseline") && note.contains("--examples"), "{note}");
}
