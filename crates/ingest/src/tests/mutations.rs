//! The short form of the fuzz targets `imports` and `suites`: files of every format, damaged.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::{
    Beside, Foreign,
    damage::{copies, damaged},
    foreign_suite,
};

/// A file of each format that is whole.
fn files() -> Vec<(Format, String)> {
    let step = serde_json::to_value(&import(Format::Trl, TRL).unwrap().steps[0]).unwrap();
    let recorded = [
        json!({"step": step}),
        json!({"outcome": {
            "id": "out_x", "target": {"by": "turn", "id": {"session": "s", "turn": 2}},
            "signal": {"kind": "accept"}, "source": "explicit", "at": "2026-01-01T00:00:00Z",
        }}),
    ];
    let trial = |reward: f64| {
        json!({"task_id": 7, "trial": reward, "reward": reward, "info": {}, "traj": [
            {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Done."},
        ]})
    };
    let trajectory = json!({
        "schema_version": "ATIF-v1.4", "session_id": "s1",
        "agent": {"name": "a", "version": "1", "model_name": "m1"},
        "steps": [
            {"step_id": 1, "source": "user", "message": "Hi"},
            {"step_id": 2, "source": "agent", "message": "Hello"},
        ],
    });
    let run = json!({
        "id": "00000000-0000-0000-0000-000000000001", "trace_id": "00000000-0000-0000-0000-000000000001",
        "run_type": "llm", "name": "ChatOpenAI", "start_time": "2026-01-01T00:00:00Z",
        "end_time": "2026-01-01T00:00:01Z",
        "inputs": {"messages": [{"role": "user", "content": "Hi"}]},
        "outputs": {"choices": [{"message": {"role": "assistant", "content": "Hello"}}]},
    });
    let attribute = |key: &str, text: &str| json!({"key": key, "value": {"stringValue": text}});
    let message =
        |role: &str| format!(r#"[{{"role":"{role}","parts":[{{"type":"text","content":"Hi"}}]}}]"#);
    let span = json!({
        "traceId": "00000000000000000000000000000001", "spanId": "0000000000000001",
        "startTimeUnixNano": "1", "endTimeUnixNano": "2", "name": "chat",
        "attributes": [
            attribute("gen_ai.operation.name", "chat"),
            attribute("gen_ai.input.messages", &message("user")),
            attribute("gen_ai.output.messages", &message("assistant")),
        ],
    });
    let request = json!({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]});
    let openai = json!({"messages": [
        {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"},
    ]});
    let lines = |rows: &[serde_json::Value]| {
        rows.iter().map(serde_json::Value::to_string).collect::<Vec<_>>().join("\n")
    };
    vec![
        (Format::OpenAi, lines(&[openai.clone(), openai])),
        (Format::Trl, TRL.to_owned()),
        (Format::Rows, SNIPS.to_owned()),
        (Format::Understudy, lines(&recorded)),
        (Format::TauBench, lines(&[trial(1.0), trial(0.0)])),
        (Format::Atif, lines(&[trajectory])),
        (Format::Langsmith, lines(&[run])),
        (Format::Otlp, lines(&[request])),
    ]
}

const TRL: &str = r#"{"prompt": "2+2?", "completion": "4"}
{"prompt": "2+2?", "completion": "5", "label": false}
{"prompt": [{"role": "user", "content": "3+3?"}], "chosen": "6", "rejected": "7"}
"#;

const SUITES: [(&str, &str); 9] = [
    (
        "evals-match",
        r#"{"input": [{"role": "user", "content": "2+2?"}], "ideal": ["4", "four (4)"]}"#,
    ),
    ("evals-includes", r#"{"input": "2+2?", "ideal": "4"}"#),
    ("evals-json", r#"{"input": "give json", "ideal": "{\"a\":1}"}"#),
    (
        "bfcl",
        r#"{"id":"simple_0","question":[[{"role":"user","content":"area?"}]],"function":[{"name":"area","parameters":{"type":"dict","properties":{"side":{"type":"float"}},"required":["side"]}}]}"#,
    ),
    (
        "promptfoo",
        r#"{"prompts": ["Say {{what}}"], "tests": [{"vars": {"what": "hi"}, "assert": [{"type": "contains", "value": "hi"}]}]}"#,
    ),
    (
        "lm-eval",
        r#"{"doc_id": 0, "doc": {}, "target": "4", "arguments": [["2+2?", {"until": ["\n"]}]], "resps": [["4"]], "filtered_resps": ["4"], "filter": "none"}"#,
    ),
    ("evals", r#"{"input": "2+2?", "ideal": "4"}"#),
    (
        "promptfoo-results",
        r#"{"results":{"version":3,"results":[{"testIdx":0,"promptIdx":0,"provider":{"id":"p","label":""},"prompt":{"raw":"Say hi","label":"Say {{what}}"},"response":{"output":"hi"},"success":true,"score":1,"testCase":{"vars":{"what":"hi"},"assert":[{"type":"contains","value":"hi"}]}}]}}"#,
    ),
    (
        "inspect",
        r#"{"version":2,"status":"success","eval":{"task":"sums","run_id":"r1","scorers":[{"name":"inspect_ai/match"}]},"samples":[{"id":1,"epoch":1,"input":"2+2?","target":"4","messages":[{"role":"user","content":"2+2?","source":"input"},{"role":"assistant","content":"4","source":"generate"}],"output":{"completion":"4"},"scores":{"match":{"value":"C"}}}]}"#,
    ),
];

const REGISTRY: &str = "sums.dev.v0: { class: evals.elsuite.basic.match:Match, args: {} }";

const TRUTH: &str = r#"{"id":"simple_0","ground_truth":[{"area":{"side":[2.0]}}]}"#;

#[test]
fn no_damage_stops_an_import_or_makes_it_read_differently_twice() {
    let files = files();
    for (format, text) in &files {
        let whole = import_any(*format, text).unwrap();
        assert!(!whole.steps.is_empty() || !whole.outcomes.is_empty(), "{format:?}: {whole:?}");
        assert!(whole.rejected.is_empty(), "{format:?}: {:?}", whole.rejected);
    }
    let bodies: Vec<Vec<u8>> = files.iter().map(|(_, text)| text.clone().into_bytes()).collect();
    let mut random = ChaCha8Rng::seed_from_u64(23);
    let (mut inputs, mut read, mut in_part, mut refused) = (0, 0, 0, 0);
    for ((format, _), body) in files.iter().zip(&bodies) {
        for _ in 0..copies(300) {
            let bytes = damaged(body, &bodies, &mut random);
            let text = String::from_utf8_lossy(&bytes);
            for format in [*format, Format::Auto] {
                inputs += 1;
                let once = import_any(format, &text);
                assert_eq!(once, import_any(format, &text));
                match once {
                    Err(_) => refused += 1,
                    Ok(found) if found.rejected.is_empty() => read += 1,
                    Ok(found) => {
                        in_part += 1;
                        // Each names a place in the text.
                        let last = text.lines().count().max(text.matches(['{', ',']).count());
                        let within = |rejected: &Rejected| (1..=last + 1).contains(&rejected.line);
                        assert!(found.rejected.iter().all(within), "{:?}", found.rejected);
                    }
                }
            }
        }
    }
    assert!(
        inputs >= 16 && read > 20 && in_part > 20 && refused > 20,
        "{read} {in_part} {refused}"
    );
}

fn import_any(format: Format, text: &str) -> Result<Imported, IngestError> {
    match format {
        Format::Rows => import_rows(text, &mapping(&["intent", "slots"])),
        format => import(format, text),
    }
}

#[test]
fn no_damage_stops_a_suite_s_reader() {
    let name = task();
    let mut random = ChaCha8Rng::seed_from_u64(29);
    let others: Vec<Vec<u8>> = SUITES.iter().map(|(_, text)| text.as_bytes().to_vec()).collect();
    let (mut read, mut refused) = (0, 0);
    for (format, text) in SUITES {
        let format = Foreign::parse(format).unwrap();
        let of = |text: &str| {
            let truths = (format == Foreign::Bfcl).then_some(TRUTH);
            let registry = (format == Foreign::Evals).then_some(REGISTRY);
            let beside = Beside { truths, registry, ..Beside::default() };
            foreign_suite(format, (text, beside), &name, Tier::Gate, None)
        };
        assert_eq!(of(text).unwrap().suite.cases.len(), 1, "{format:?}");
        for _ in 0..copies(300) {
            let bytes = damaged(text.as_bytes(), &others, &mut random);
            let text = String::from_utf8_lossy(&bytes);
            match of(&text) {
                Err(_) => refused += 1,
                Ok(found) => {
                    read += 1;
                    // What was read can be written and read as a suite of ours.
                    assert!(!found.suite.cases.is_empty());
                }
            }
        }
    }
    assert!(read > 20 && refused > 20, "{read} read, {refused} refused");
}
