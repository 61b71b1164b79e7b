//! `understudy judge` and `eval --judge` against a scripted model behind HTTP.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use serde_json::{Value, json};

use crate::cli::{text, understudy};

/// An endpoint that replies with what `verdict` makes of the question; counts what it was asked.
struct Endpoint {
    url: String,
    asked: Arc<AtomicUsize>,
}

impl Endpoint {
    fn start(verdict: impl Fn(&str) -> Option<&'static str> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let (count, verdict) = (Arc::clone(&asked), Arc::new(verdict));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (count, verdict) = (Arc::clone(&count), Arc::clone(&verdict));
                thread::spawn(move || meet(&mut stream.unwrap(), &count, &*verdict));
            }
        });
        Self { url, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn meet(
    stream: &mut TcpStream,
    count: &AtomicUsize,
    verdict: &dyn Fn(&str) -> Option<&'static str>,
) -> Option<()> {
    let body = body(stream)?;
    let asked: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&asked["model"], &asked["temperature"]), (&json!("big"), &json!(0.0)));
    let question = asked["messages"][1]["content"].as_str().unwrap();
    count.fetch_add(1, Ordering::SeqCst);
    let reply = match verdict(question) {
        Some(word) => {
            let text = match word {
                "met" | "unmet" => json!({"reason": "so", "met": word == "met"}).to_string(),
                word => format!("{{\"reason\": \"so\", \"verdict\": \"{word}\"}}"),
            };
            let delta = json!({"choices": [{"index": 0, "delta": {"content": text}}]});
            let end = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 100, "completion_tokens": 10}});
            format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n\
                 data: {delta}\n\ndata: {end}\n\ndata: [DONE]\n\n"
            )
        }
        None => "HTTP/1.1 400 Bad Request\r\ncontent-length: 4\r\nconnection: close\r\n\r\nno!!"
            .to_owned(),
    };
    stream.write_all(reply.as_bytes()).ok()
}

/// The body of a request; none where a connection was only opened.
fn body(stream: &TcpStream) -> Option<Vec<u8>> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(body)
}

/// Which of the two answers, in the order they are shown, has the word.
fn has(question: &str, word: &str) -> (bool, bool) {
    let (first, second) = question.split_once("<B-").unwrap();
    (first.split_once("<A-").unwrap().1.contains(word), second.contains(word))
}

fn fair(question: &str) -> Option<&'static str> {
    Some(match has(question, "good") {
        (true, false) => "A",
        (false, true) => "B",
        _ => "tie",
    })
}

/// A directory with a judge, a suite of thirty cases and two subjects: the candidate is better on
/// twenty-eight.
fn home(url: &str) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let write = |name: &str, rows: Vec<Value>| {
        let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
        fs::write(home.path().join(name), lines.join("\n")).unwrap();
    };
    let config = format!(
        "[judge]\nurl = \"{url}\"\nmodel = \"big\"\nusd_per_day = 5\n\
         input_usd_per_million = 2\noutput_usd_per_million = 10\n"
    );
    fs::write(home.path().join("understudy.toml"), config).unwrap();
    let topics = ["parcel", "invoice", "password", "refund", "address", "upgrade"];
    let question =
        |n: usize| format!("help me with {} number {n} of month {}", topics[n % 6], n % 7);
    write("cases.jsonl", (0..30).map(|n| json!({"q": question(n), "a": "x"})).collect());
    let answers = |good: &dyn Fn(usize) -> bool| {
        let word = |n| if good(n) { format!("good {n}") } else { format!("poor {n}") };
        (0..30).map(|n| json!({"id": format!("{:04}", n + 1), "output": word(n)})).collect()
    };
    write("new.jsonl", answers(&|n| n < 28));
    write("old.jsonl", answers(&|n| n >= 28));
    let label = |n: usize| {
        let (a, b, label) =
            if n.is_multiple_of(2) { ("good", "poor", "a") } else { ("poor", "good", "b") };
        json!({"prompt": question(n), "a": format!("{a} {n}"), "b": format!("{b} {n}"), "label": label})
    };
    write("labels.jsonl", (0..50).map(label).collect());
    let import = [
        "suite",
        "import",
        "cases.jsonl",
        "--name",
        "talk",
        "--tier",
        "dev",
        "--input",
        "q",
        "--output",
        "a",
        "--scorer",
        "no_refusal",
    ];
    let output = understudy(home.path(), &import);
    assert!(output.status.success(), "{}", text(&output.stderr));
    home
}

fn eval(home: &Path, extra: &[&str]) -> (Option<i32>, Value, String) {
    let common = [
        "eval",
        "new.jsonl",
        "--suite",
        "talk",
        "--baseline",
        "old.jsonl",
        "--margin",
        "0.2",
        "--judge",
        "--json",
    ];
    let verdict =
        if extra.contains(&"--verdict") { &[][..] } else { &["--verdict", "non_inferior"] };
    let output = understudy(home, &[&common, verdict, extra].concat());
    let value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code(), value, text(&output.stderr))
}

#[test]
fn a_judge_is_advisory_until_people_agree_with_it() {
    let endpoint = Endpoint::start(fair);
    let home = home(&endpoint.url);
    let (code, report, why) = eval(home.path(), &[]);
    assert_eq!(code, Some(0), "{why}");
    let judge = &report["judge"];
    assert_eq!(
        (&judge["comparison"]["wins"], &judge["comparison"]["losses"]),
        (&json!(28), &json!(2))
    );
    assert_eq!((&judge["undecided"], &judge["flips"]), (&json!(0), &json!({"met": 0, "of": 30})));
    // 60 replies of 100 and 10 tokens at 2 and 10 dollars a million.
    assert_eq!(judge["cost"], 60 * (100 * 2 + 10 * 10));
    assert!(judge.get("calibration").is_none());
    let checks = |report: &Value| {
        let checks = report["decision"]["checks"].as_array().unwrap();
        checks.iter().any(|check| check["name"] == "judge")
    };
    assert!(!checks(&report), "{report}");
    assert_eq!(endpoint.asked(), 60);

    // Nobody is asked twice, and the report is the same.
    let (_, again, _) = eval(home.path(), &[]);
    assert_eq!((endpoint.asked(), &again), (60, &report));

    let (code, _, why) = eval(home.path(), &["--judge-decides"]);
    assert_eq!(code, Some(2), "{why}");
    assert!(why.contains("judge calibrate"), "{why}");

    let calibrate = understudy(home.path(), &["judge", "calibrate", "labels.jsonl", "--json"]);
    assert_eq!(calibrate.status.code(), Some(0), "{}", text(&calibrate.stderr));
    let found: Value = serde_json::from_slice(&calibrate.stdout).unwrap();
    assert_eq!((&found["kappa"], &found["labels"]), (&json!(1.0), &json!(50)));
    let (code, report, why) = eval(home.path(), &["--judge-decides", "--verdict", "better"]);
    // The only other scorer finds no difference at all.
    assert_eq!(code, Some(1), "{why}");
    assert!(checks(&report), "{report}");
    let (code, report, why) = eval(home.path(), &["--judge-decides"]);
    assert_eq!(code, Some(0), "{why}");
    assert!(checks(&report) && report["judge"]["calibration"]["labels"] == 50);
    // Another rubric is another judge, which nobody has held against anything.
    fs::write(home.path().join("rubric.md"), "Brevity.").unwrap();
    let (code, ..) = eval(home.path(), &["--judge-decides", "--rubric", "rubric.md"]);
    assert_eq!(code, Some(2));
    let list = understudy(home.path(), &["judge", "list", "--json"]);
    let list: Value = serde_json::from_slice(&list.stdout).unwrap();
    assert_eq!(list.as_array().unwrap().len(), 1);
}

#[test]
fn a_judge_that_prefers_what_comes_first_is_found_out() {
    let endpoint = Endpoint::start(|_| Some("A"));
    let home = home(&endpoint.url);
    let (code, report, why) = eval(home.path(), &[]);
    assert_eq!(code, Some(0), "{why}");
    let judge = &report["judge"];
    assert_eq!((&judge["undecided"], &judge["comparison"]["ties"]), (&json!(30), &json!(30)));
    assert_eq!(judge["first_preferred"], json!({"met": 60, "of": 60}));
    let calibrate = understudy(home.path(), &["judge", "calibrate", "labels.jsonl"]);
    assert_eq!(calibrate.status.code(), Some(1), "{}", text(&calibrate.stderr));
    let said = text(&calibrate.stdout);
    assert!(said.contains("advisory") && said.contains("kappa 0.000"), "{said}");
    let (code, ..) = eval(home.path(), &["--judge-decides"]);
    assert_eq!(code, Some(2));
}

#[test]
fn what_a_judge_refuses_is_counted_and_asked_again() {
    let refuses = Arc::new(AtomicUsize::new(1));
    let switch = Arc::clone(&refuses);
    let endpoint = Endpoint::start(move |question| {
        let cursed = switch.load(Ordering::SeqCst) == 1 && question.contains("number 3 ");
        if cursed { None } else { fair(question) }
    });
    let home = home(&endpoint.url);
    let (code, report, why) = eval(home.path(), &[]);
    assert_eq!(code, Some(0), "{why}");
    assert_eq!(report["judge"]["errors"], 1, "{report}");
    refuses.store(0, Ordering::SeqCst);
    let before = endpoint.asked();
    let (_, report, _) = eval(home.path(), &[]);
    assert_eq!((&report["judge"]["errors"], endpoint.asked() - before), (&json!(0), 2));
}

#[test]
fn without_a_judge_in_the_configuration_the_command_says_what_to_write() {
    let endpoint = Endpoint::start(fair);
    let home = home(&endpoint.url);
    fs::write(home.path().join("understudy.toml"), "").unwrap();
    let (code, _, why) = eval(home.path(), &[]);
    assert_eq!(code, Some(2));
    assert!(why.contains("[judge]"), "{why}");
    assert_eq!(endpoint.asked(), 0);
}

#[test]
fn a_model_does_not_judge_itself() {
    let endpoint = Endpoint::start(fair);
    let home = home(&endpoint.url);
    let ask = |base: &str| {
        let line = ["eval", "base", "--suite", "talk", "--baseline", "old.jsonl", "--judge"];
        understudy(home.path(), &[&line[..], &["--mock-engine", "--base", base]].concat())
    };
    let output = ask("models/Big.gguf");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("is the same model"), "{}", text(&output.stderr));
    assert_ne!(ask("small").status.code(), Some(2));
}

/// A suite whose only scorer is a rubric, over the cases of [`home`].
fn rubric() -> String {
    let header = json!({"schema": 1, "suite": "manners", "tier": "dev",
        "scorers": ["judge:manners"],
        "rubrics": [{"name": "manners", "criteria": [
            {"name": "helps", "holds": "The answer is good."},
            {"name": "short", "holds": "The answer is short.", "weight": 3}]}]});
    let case = |n: usize| {
        json!({"id": format!("{n:04}"), "expected": "x",
            "prompt": [{"role": "user", "content": format!("help {n}")}]})
    };
    let lines: Vec<String> =
        std::iter::once(header).chain((1..=30).map(case)).map(|line| line.to_string()).collect();
    lines.join("\n")
}

#[test]
fn a_suites_rubric_is_asked_criterion_by_criterion_and_advises_until_it_is_calibrated() {
    let endpoint = Endpoint::start(|question| {
        let short = question.contains("The statement: The answer is short.");
        Some(if short || question.contains("\ngood ") { "met" } else { "unmet" })
    });
    let home = home(&endpoint.url);
    fs::write(home.path().join("rubric.jsonl"), rubric()).unwrap();
    let imported = understudy(home.path(), &["suite", "import", "rubric.jsonl", "--name", "x"]);
    assert!(imported.status.success(), "{}", text(&imported.stderr));
    let evaluate = || {
        let line = ["eval", "new.jsonl", "--baseline", "old.jsonl", "--suite", "manners", "--json"];
        let output = understudy(home.path(), &line);
        assert!(!output.stdout.is_empty(), "{}", text(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), report)
    };
    let (code, report) = evaluate();
    assert_eq!(endpoint.asked(), 2 * 2 * 30, "each criterion of each answer");
    let mean = |at: usize| report["subjects"][at]["scores"]["judge:manners"]["mean"].clone();
    let close = |value: Value, to: f64| (value.as_f64().unwrap() - to).abs() < 1e-9;
    assert!(close(mean(1), (28.0 + 2.0 * 0.75) / 30.0), "{report}");
    assert!(close(mean(0), (2.0 + 28.0 * 0.75) / 30.0), "{report}");
    assert_eq!((code, &report["decision"]["passed"]), (Some(1), &json!(false)));
    let checks = report["decision"]["checks"].to_string();
    assert!(checks.contains("never held against people"), "{checks}");
    assert!(report["notes"].to_string().contains("left 0 unresolved"), "{report}");

    let label = |n: usize| {
        let good = n.is_multiple_of(2);
        let answer = format!("\n{} {n}", if good { "good" } else { "poor" });
        json!({"prompt": "help", "answer": answer, "holds": "It is good.", "met": good}).to_string()
    };
    let labels: Vec<String> = (0..60).map(label).collect();
    fs::write(home.path().join("statements.jsonl"), labels.join("\n")).unwrap();
    let held = understudy(home.path(), &["judge", "calibrate", "statements.jsonl"]);
    assert!(held.status.success(), "{} {}", text(&held.stdout), text(&held.stderr));
    let before = endpoint.asked();
    let (code, report) = evaluate();
    assert_eq!((code, &report["decision"]["passed"]), (Some(0), &json!(true)), "{report}");
    assert_eq!(endpoint.asked(), before, "nothing is asked twice");
    let wrong = ["judge", "calibrate", "statements.jsonl", "--rubric", "labels.jsonl"];
    assert_eq!(understudy(home.path(), &wrong).status.code(), Some(2));
}
