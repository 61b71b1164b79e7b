use serde_json::json;
use understudy_manifest::{RecordedAnswer, Tier};

use super::*;
use crate::{Beside, Foreign, ForeignSuite, foreign_suite};

const CONFIG: &str = "prompts: ['Greet {{name}} in {{lang}}.']\ntests: file://tests.csv\n";

fn read(format: &str, text: &str, tests: Option<&str>) -> Result<ForeignSuite, IngestError> {
    let (format, name) = (Foreign::parse(format).unwrap(), "imported".parse().unwrap());
    let beside = Beside { tests, ..Beside::default() };
    foreign_suite(format, (text, beside), &name, Tier::Gate, None)
}

fn sheet(tests: &str) -> Result<ForeignSuite, IngestError> {
    read("promptfoo", CONFIG, Some(tests))
}

fn checks(case: &Case) -> Vec<(String, bool, String)> {
    let told = |check: &Check| {
        (check.scorer.name(), check.negate, check.value.clone().unwrap_or_default())
    };
    case.checks.iter().map(told).collect()
}

#[test]
fn rows_of_a_spreadsheet_are_tests() {
    let text = "name,lang,__expected1,__expected2,__description,__metric,__metadata:who\r\n\
        Ada,French,Bonjour Ada,not-contains:hello,first,warmth,me\r\n\
        Bob,German,\"contains-any:hallo, guten tag\",\"similar(0.9):Hallo, Bob\",,,\r\n\
        Cy,English,llm-rubric:It greets {{name}}.,is-json,,,\r\n";
    let suite = sheet(text).unwrap().suite;
    let prompts: Vec<String> = suite.cases.iter().map(|case| case.prompt[0].text()).collect();
    assert_eq!(prompts, ["Greet Ada in French.", "Greet Bob in German.", "Greet Cy in English."]);
    let owned = |name: &str, negate, value: &str| (name.to_owned(), negate, value.to_owned());
    assert_eq!(
        checks(&suite.cases[0]),
        [owned("exact", false, "Bonjour Ada"), owned("contains", true, "hello")]
    );
    assert_eq!(
        checks(&suite.cases[1]),
        [
            owned("contains_any", false, r#"["hallo","guten tag"]"#),
            owned("similarity:0.9", false, "Hallo, Bob")
        ]
    );
    // A judge is asked about this test's own name.
    assert_eq!(
        checks(&suite.cases[2]),
        [owned("judge", false, "It greets Cy."), owned("json_valid", false, "")]
    );
    assert_eq!(suite.cases[0].provenance.as_deref(), Some("first"));
}

#[test]
fn what_a_row_says_beyond_that_is_refused_with_its_place() {
    for (text, why) in [
        ("name,lang,__expected\nA,B,javascript:output.length > 1", "`javascript:`"),
        ("name,lang,__expected\nA,B,x\nA,B,python:x", "line 2"),
        ("name,lang,__expected,__prefix\nA,B,x,Dear", "`__prefix`"),
        ("name,lang,__expected,__threshold\nA,B,x,0.5", "threshold over all asserts"),
        ("name,lang,__expected,__threshold\nA,B,x,much", "`__threshold` is no number"),
        ("name,lang,__expected\nA,B,x,y", "4 fields under 3 columns"),
        ("name,lang,__expected\nA,B,", "asserts nothing"),
        ("name,lang,__expected\nA,B,levenshtein(3):x", "`levenshtein` has no counterpart"),
        ("name,__expected\nA,x", "`lang`, which is not set"),
        ("name,lang,__expected\nA,B,\"x", "never closed"),
    ] {
        let found = sheet(text).unwrap_err().to_string();
        assert!(found.contains(why), "{why}: {found}");
    }
    let own = "prompts: [a]\ntests: [{assert: [{type: contains, value: x}]}]\n";
    let both = read("promptfoo", own, Some("__expected\nx")).unwrap_err().to_string();
    assert!(both.contains("tests of its own"), "{both}");
    let unused = read("inspect", "{}", Some("x")).unwrap_err();
    assert_eq!(unused, IngestError::Beside { what: "tests" });
    let files = "prompts: [a]\ntests: ['file://a.csv', 'file://b.csv']\n";
    assert!(read("promptfoo", files, None).unwrap_err().to_string().contains("several files"));
}

#[test]
fn tests_may_be_one_object_a_line() {
    let line = |name: &str| {
        json!({"vars": {"name": name, "lang": "French"},
            "assert": [{"type": "icontains", "value": "bonjour {{name}}", "weight": 2}]})
        .to_string()
    };
    let suite = sheet(&[line("Ada"), line("Bob")].join("\n")).unwrap().suite;
    assert_eq!(suite.cases.len(), 2);
    assert_eq!(suite.cases[1].checks[0].value.as_deref(), Some("bonjour Bob"));
    let wrong = format!("{}\n{{\"vars\": 3}}", line("Ada"));
    assert!(sheet(&wrong).unwrap_err().to_string().contains("line 2"));
}

fn outcome(at: usize, provider: &str, output: Value) -> Value {
    json!({"testIdx": at, "promptIdx": 0, "provider": {"id": provider, "label": ""},
        "prompt": {"raw": format!("Greet {at}."), "label": "Greet {{name}}."},
        "response": {"output": output, "tokenUsage": {"total": 9}}, "success": true, "score": 1,
        "testCase": {"vars": {"name": at.to_string()}, "metadata": {},
            "assert": [{"type": "contains", "value": "{{name}}"}]}})
}

fn results(outcomes: Vec<Value>) -> String {
    json!({"evalId": "eval-1", "results": {"version": 3, "results": outcomes, "stats": {}},
        "config": {}, "shareableUrl": null})
    .to_string()
}

#[test]
fn results_bring_cases_and_answers() {
    let failed = json!({"testIdx": 2, "error": "timeout", "prompt": {"raw": "Greet 2."},
        "provider": {"id": "openai:small"},
        "testCase": {"vars": {"name": "2"}, "assert": [{"type": "is-json"}]}});
    let text = results(vec![
        outcome(0, "openai:small", json!("hi 0")),
        outcome(1, "openai:small", json!({"greeting": 1})),
        failed,
    ]);
    let found = read("promptfoo-results", &text, None).unwrap();
    let ids: Vec<&str> = found.suite.cases.iter().map(|case| case.id.as_str()).collect();
    assert_eq!(ids, ["0001", "0002", "0003"]);
    assert_eq!(found.suite.cases[1].prompt, [Message::user("Greet 1.")]);
    assert_eq!(found.suite.cases[1].checks[0].value.as_deref(), Some("1"));
    let answers = [("0001", "hi 0"), ("0002", r#"{"greeting":1}"#)];
    assert_eq!(found.answers, answers.map(|(id, text)| RecordedAnswer::new(id, text)));
}

#[test]
fn results_of_several_or_without_their_tests_are_refused() {
    let refused = |text: &str| read("promptfoo-results", text, None).unwrap_err().to_string();
    let two = results(vec![outcome(0, "a", json!("x")), outcome(0, "b", json!("y"))]);
    let why = refused(&two);
    assert!(why.contains("a to prompt 1; b to prompt 1"), "{why}");
    let mut old = outcome(4, "a", json!("x"));
    old.as_object_mut().unwrap().remove("testCase");
    assert!(refused(&results(vec![old])).contains("test 5: it has no `testCase`"));
    let mut script = outcome(0, "a", json!("x"));
    script["testCase"]["assert"][0]["type"] = json!("javascript");
    assert!(refused(&results(vec![script])).contains("`javascript` has no counterpart"));
    assert!(refused("{\"results\": []}").contains("no file of results"));
}
