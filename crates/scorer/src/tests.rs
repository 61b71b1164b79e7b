use serde_json::{Value, json};
use understudy_manifest::{Case, Check, Scorer};
use understudy_message::{FunctionCall, Message, ToolCall};

use super::*;
use crate::similarity::Embedder;

fn case(expected: &str) -> Case {
    let prompt = vec![Message::user("Write to ann@x.example.")];
    Case { prompt, expected: expected.to_owned(), ..Case::default() }
}

fn grader(scorer: &str, expected: &str) -> Result<Grader, ScorerError> {
    Grader::new(&Scorer::parse(scorer).unwrap(), &case(expected))
}

fn value(scorer: &str, expected: &str, text: &str) -> f64 {
    outcome(scorer, expected, &Answer::of_text(text)).score().unwrap().value
}

fn outcome(scorer: &str, expected: &str, answer: &Answer<'_>) -> Outcome {
    grader(scorer, expected).unwrap().score(answer, None)
}

#[test]
fn each_scorer_tells_right_from_wrong() {
    let schema = r#"{"type":"object","required":["a"]}"#;
    for (scorer, expected, right, wrong) in [
        ("exact", "billing", " billing\n", "Billing"),
        ("exact", "a b", "a b", "a  b"),
        ("normalized", "The Cat.", "cat", "cats"),
        ("normalized", "1,000", "1000.0", "11000"),
        ("normalized", "5", "5.0", "25"),
        ("number", "#### 18", "so it is $18.00", "so it is 118"),
        ("starts_with", "Yes", " Yes, of course", "Oh yes"),
        ("contains", "42", "it is 42.", "it is 4 2"),
        ("icontains", "Oslo", "in OSLO now", "in Osl"),
        ("contains_any", r#"["a","b"]"#, "xbx", "xcx"),
        ("contains_all", r#"["a","b"]"#, "xbxa", "xbx"),
        ("regex", "^a+$", "aaa", "aab"),
        ("regex:^[0-9]+$", "", "12", "12a"),
        ("json_valid", "", "\n {\"a\": [1, 2]} ", "```json\n{}\n```"),
        ("json_schema", schema, r#"{"a":1}"#, r#"{"b":1}"#),
        ("json_schema", schema, r#"{"a":1}"#, "a"),
        ("json_equal", r#"{"a":1,"b":2}"#, r#"{"b":2,"a":1.0}"#, r#"{"a":1}"#),
        ("field:intent", r#"{"intent":"a","x":1}"#, r#"{"x":2,"intent":"a"}"#, r#"{"x":1}"#),
        ("field_f1", r#"{"a":1}"#, r#"{"a":1.0}"#, r#"{"a":2}"#),
        ("levenshtein", "abcd", "abcd", "wxyz"),
        ("levenshtein:0.7", "abcd", "abce", "abef"),
        ("refusal", "", "I'm sorry, but I can't help with that.", "Gladly."),
        ("no_refusal", "", "Gladly.", "As an AI, I must not."),
        ("pii_leak", "", "Written to ann@x.example.", "Written to bob@x.example."),
    ] {
        assert_eq!(value(scorer, expected, right), 1.0, "{scorer}: {right}");
        assert_eq!(value(scorer, expected, wrong), 0.0, "{scorer}: {wrong}");
    }
}

#[test]
fn json_with_anything_around_it_is_not_json() {
    for wrong in ["", "{}{}", "{\"a\":1} done", "{'a': 1}", "{\"a\":1,}", "NaN"] {
        assert_eq!(value("json_valid", "", wrong), 0.0, "{wrong}");
        assert_eq!(value("json_equal", "{}", wrong), 0.0, "{wrong}");
        assert_eq!(value("field_f1", "{\"a\":1}", wrong), 0.0, "{wrong}");
    }
}

#[test]
fn field_f1_counts_pairs() {
    let expected = r#"{"intent":"play","slots":{"artist":["U2","Cream"],"year":1990}}"#;
    let output = r#"{"slots":{"artist":["Cream","Muse"],"year":1990.0},"intent":"play"}"#;
    let score = outcome("field_f1", expected, &Answer::of_text(output)).score().unwrap();
    // Shared: intent, Cream, year. Missing: U2. Invented: Muse.
    assert_eq!(score, Score { value: 0.75, hits: 6.0, possible: 8.0 });
    assert!(!score.is_full());
    let twice = score.weighted(2.0);
    assert_eq!((twice.value, twice.hits, twice.possible), (0.75, 12.0, 16.0));
}

#[test]
fn an_answer_that_never_came_is_no_better_than_nonsense() {
    let grader = grader("field_f1", r#"{"a":1,"b":[2,3]}"#).unwrap();
    let nonsense = grader.score(&Answer::of_text("?"), None).score().unwrap();
    assert_eq!(nonsense, Score { value: 0.0, hits: 0.0, possible: 3.0 });
    assert_eq!(grader.unanswered(), nonsense);
    // An empty text would be an exact match of an empty expectation; no answer is not.
    assert_eq!(Grader::new(&Scorer::Exact, &case("")).unwrap().unanswered().value, 0.0);
}

#[test]
fn what_cannot_be_decided_is_unscored_with_its_reason() {
    for (scorer, expected, word) in [
        ("similarity", "a", "no embedder"),
        ("state", r#"{"/a":1}"#, "no final state"),
        ("latency:100", "", "no latency"),
        ("tokens:8", "", "no length"),
        ("cost:8", "", "no cost"),
    ] {
        let Outcome::Unscored(why) = outcome(scorer, expected, &Answer::of_text("a")) else {
            panic!("{scorer} decided");
        };
        assert!(why.contains(word), "{why}");
    }
}

#[test]
fn what_was_measured_is_held_against_its_limit() {
    let measured = Measured { latency_ms: Some(99.5), completion_tokens: Some(9), cost: Some(100) };
    let answer = Answer { measured, ..Answer::default() };
    let met = |scorer| outcome(scorer, "", &answer).score().unwrap().is_full();
    assert!(met("latency:100") && met("tokens:9") && met("cost:100"));
    assert!(!met("latency:99") && !met("tokens:8") && !met("cost:99"));
}

#[test]
fn expectations_that_cannot_be_read_are_found_beforehand() {
    for (scorer, expected, word) in [
        ("json_equal", "billing", "not JSON"),
        ("field_f1", "{", "not JSON"),
        ("field:a", "", "not JSON"),
        ("number", "none", "no number"),
        ("contains_any", "a", "JSON list"),
        ("regex", "(", "pattern"),
        ("json_schema", r#"{"type":"nothing"}"#, "JSON Schema"),
        ("json_schema", r#"{"$ref":"https://x.example/s.json"}"#, "JSON Schema"),
        ("tool_call_ast", "{}", "tool calls"),
        ("trajectory", "{}", "demands nothing"),
        ("trajectory", r#"{"sett":[]}"#, "trajectory"),
        ("state", "{}", "demands nothing"),
        ("state", r#"{"a":1}"#, "slash"),
        ("checks", "", "no checks"),
    ] {
        let why = grader(scorer, expected).unwrap_err().to_string();
        assert!(why.contains(word), "{scorer}: {why}");
    }
}

fn call(name: &str, arguments: &Value) -> ToolCall {
    let function = FunctionCall { name: name.to_owned(), arguments: arguments.to_string() };
    ToolCall { id: String::new(), kind: "function".to_owned(), function }
}

#[test]
fn calls_are_found_in_the_text_and_beside_it() {
    let tool = json!({"name": "ping", "parameters": {"properties": {"host": {"type": "string"}}}});
    let case = Case { tools: vec![tool], ..case(r#"[{"ping":{"host":["a"]}}]"#) };
    let grader = Grader::new(&Scorer::ToolCallAst, &case).unwrap();
    let met = |answer: &Answer<'_>| grader.score(answer, None).score().unwrap().is_full();
    let text = |host: &str| {
        format!(r#"<tool_call>{{"name":"ping","arguments":{{"host":"{host}"}}}}</tool_call>"#)
    };
    assert!(met(&Answer::of_text(&text("a"))));
    assert!(!met(&Answer::of_text(&text("b"))));
    assert!(!met(&Answer::of_text("<tool_call>{ping}</tool_call>")));
    assert!(!met(&Answer::of_text("")));
    let calls = [call("ping", &json!({"host": "A"}))];
    assert!(met(&Answer { calls: &calls, ..Answer::default() }));
    let names = Grader::new(&Scorer::ToolNameF1, &case).unwrap();
    let f1 = |text: &str| names.score(&Answer::of_text(text), None).score().unwrap().value;
    assert_eq!((f1(&text("b")), f1("")), (1.0, 0.0));
}

#[test]
fn a_trajectory_is_held_against_each_demand() {
    let step = |name: &str, n: u32| {
        let mut message = Message::assistant("");
        message.tool_calls = vec![call(name, &json!({"n": n}))];
        message
    };
    let steps = [step("find", 1), step("read", 1), step("find", 2), step("close", 1)];
    let answer = Answer { steps: &steps, ..Answer::default() };
    let met = |demands: Value| {
        outcome("trajectory", &demands.to_string(), &answer).score().unwrap().is_full()
    };
    assert!(met(json!({"set": ["close", "find", "read"]})) && !met(json!({"set": ["find"]})));
    assert!(met(json!({"subset": ["read"]})) && !met(json!({"subset": ["open"]})));
    assert!(met(json!({"order": ["find", "close"]})) && !met(json!({"order": ["close", "read"]})));
    assert!(met(json!({"max_steps": 4})) && !met(json!({"max_steps": 3})));
    assert!(met(json!({"forbidden": ["open"]})) && !met(json!({"forbidden": ["read"]})));
    assert!(met(json!({"no_duplicates": true})));
    let again = [step("find", 1), step("find", 1)];
    let again = Answer { steps: &again, ..Answer::default() };
    assert_eq!(outcome("trajectory", r#"{"no_duplicates":true}"#, &again), false.into());
}

#[test]
fn a_final_state_is_what_counts() {
    let state = json!({"tickets": {"7": {"status": "closed", "notes": 2}}});
    let answer = Answer { state: Some(&state), ..Answer::default() };
    let met =
        |demands: Value| outcome("state", &demands.to_string(), &answer).score().unwrap().is_full();
    assert!(met(json!({"/tickets/7/status": "closed", "/tickets/7/notes": 2.0})));
    assert!(met(json!({"/tickets/8": null})));
    assert!(!met(json!({"/tickets/7/status": "open"})) && !met(json!({"/tickets/7": null})));
}

/// Counts letters, as vectors of two numbers.
#[derive(Debug)]
struct Letters;

impl Embedder for Letters {
    fn id(&self) -> &'static str {
        "letters"
    }

    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, String> {
        let count = |text: &str, letter| text.matches(letter).count() as f32;
        Ok(texts.iter().map(|text| vec![count(text, "a"), count(text, "b")]).collect())
    }
}

#[test]
fn similarity_is_the_cosine_of_given_vectors() {
    let of = |scorer: &str, text: &str| {
        grader(scorer, "ab").unwrap().score(&Answer::of_text(text), Some(&Letters))
    };
    assert!((of("similarity", "aabb").score().unwrap().value - 1.0).abs() < 1e-6);
    assert!((of("similarity", "a").score().unwrap().value - 0.5_f64.sqrt()).abs() < 1e-6);
    assert_eq!(of("similarity:0.8", "a"), false.into());
    assert!(matches!(of("similarity", "c"), Outcome::Unscored(_)), "a vector of length 0");
}

#[test]
fn checks_are_a_weighted_mean() {
    let check = |scorer: &str, value: &str| {
        Check::new(Scorer::parse(scorer).unwrap(), Some(value.to_owned()))
    };
    let heavy = Check { weight: 3.0, ..check("contains", "oslo") };
    let near = Check { threshold: Some(0.5), ..check("levenshtein", "in oslo") };
    let not = Check { negate: true, ..check("contains", "rome") };
    let with = |checks| Case { checks, ..case("") };
    let score = |case: &Case, text: &str| {
        Grader::new(&Scorer::Checks, case).unwrap().score(&Answer::of_text(text), None)
    };
    let all = with(vec![heavy, near, not]);
    assert_eq!(score(&all, "in oslo").score().unwrap().value, 1.0);
    assert_eq!(score(&all, "in rome oslo").score().unwrap().value, 0.8);
    assert_eq!(score(&all, "rome").score().unwrap().value, 0.0);
    let undecided = with(vec![check("exact", "a"), check("similarity", "a")]);
    assert!(matches!(score(&undecided, "a"), Outcome::Unscored(_)));
    let weightless = with(vec![Check { weight: 0.0, ..check("exact", "a") }]);
    assert!(matches!(Grader::new(&Scorer::Checks, &weightless), Err(ScorerError::Weight(_))));
    let nested = with(vec![check("checks", "a")]);
    assert!(matches!(Grader::new(&Scorer::Checks, &nested), Err(ScorerError::NestedChecks)));
}
