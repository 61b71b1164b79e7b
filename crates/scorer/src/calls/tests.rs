use serde::Deserialize;
use serde_json::json;

use super::*;

/// `{"tool": {arguments}}`, as ground truths are written.
fn made(calls: &Value) -> Vec<Call> {
    let call = |(name, arguments): (&String, &Value)| Call {
        name: name.clone(),
        arguments: arguments.as_object().unwrap().clone(),
    };
    calls.as_array().unwrap().iter().flat_map(|one| one.as_object().unwrap()).map(call).collect()
}

fn tools() -> Vec<Value> {
    vec![
        json!({"type": "function", "function": {"name": "book", "parameters": {
        "type": "object", "required": ["city"], "properties": {
            "city": {"type": "string"}, "nights": {"type": "integer"},
            "price": {"type": "float"}, "window": {"type": "boolean"},
            "guests": {"type": "array", "items": {"type": "string"}},
            "room": {"type": "object", "properties": {"beds": {"type": "integer"}}},
        }}}}),
        json!({"name": "ping", "parameters": {"type": "dict", "properties": {}}}),
    ]
}

fn check(truth: Value, calls: &Value, rules: Rules) -> bool {
    Expected::parse(&truth.to_string(), &tools()).unwrap().check(&made(calls), rules).is_ok()
}

fn both(truth: &Value, calls: &Value) -> [bool; 2] {
    [Rules::Bfcl, Rules::Strict].map(|rules| check(truth.clone(), calls, rules))
}

/// Every fifth task of Java and JavaScript, with answers in source text; `make_bfcl_source_golden.py`
/// says how the rows came to be.
#[test]
fn verdicts_on_source_text_are_those_of_the_leaderboard() {
    let [valid, invalid] = agree(include_str!("../../tests/golden/bfcl_source.jsonl"));
    assert!(valid > 150 && invalid > 500, "{valid} and {invalid}");
}

#[test]
fn a_tool_of_another_language_is_refused() {
    let tool = json!({"name": "f", "x-language": "cobol", "parameters": {}});
    let error = Expected::parse("[]", &[tool]).unwrap_err().to_string();
    assert!(error.contains("cobol"), "{error}");
}

#[test]
fn strict_rules_read_source_text_as_well() {
    let tool = json!({"name": "f", "x-language": "java", "parameters": {
        "type": "object", "required": ["ids"], "properties": {
            "ids": {"type": "string", "x-type": "ArrayList", "x-items": "long"},
            "who": {"type": "string", "x-type": "HashMap"},
    }}});
    let truth = json!([{"f": {"ids": [[1, 2]], "who": [{"name": ["Ada"]}, ""]}}]);
    let expected = Expected::parse(&truth.to_string(), &[tool]).unwrap();
    let check = |ids: &str, who: &str| {
        let calls = json!([{"f": {"ids": ids, "who": who}}]);
        expected.check(&made(&calls), Rules::Strict).is_ok()
    };
    let (ids, who) =
        ("new ArrayList<>(Arrays.asList(1L, 2L))", "new HashMap<>() {{ put(\"name\", \"ada\"); }}");
    assert!(check(ids, who));
    assert!(!check("new ArrayList<>(Arrays.asList(2L, 1L))", who));
    assert!(!check(ids, "new HashMap<>()"));
    let bare = json!([{"f": {"ids": [1, 2]}}]);
    let why = expected.check(&made(&bare), Rules::Strict).unwrap_err();
    assert!(why.contains("source text"), "{why}");
}

/// One of each shape of a task; `make_bfcl_golden.py` says how the rows came to be. On all 2,351
/// tasks the example `bfcl_parity` does the same.
#[test]
fn verdicts_are_those_of_the_leaderboard() {
    let [valid, invalid] = agree(include_str!("../../tests/golden/bfcl.jsonl"));
    assert!(valid > 100 && invalid > 500, "{valid} and {invalid}");
}

/// Holds our verdicts against theirs, and counts what is valid and what is not.
fn agree(golden: &str) -> [usize; 2] {
    #[derive(Deserialize)]
    struct Row {
        id: String,
        tools: Vec<Value>,
        truth: Value,
        answers: Vec<(Value, bool)>,
    }
    let (mut valid, mut invalid) = (0, 0);
    for line in golden.lines() {
        let row: Row = serde_json::from_str(line).unwrap();
        let expected = Expected::parse(&row.truth.to_string(), &row.tools).unwrap();
        for (answer, theirs) in row.answers {
            let ours = expected.check(&made(&answer), Rules::Bfcl);
            assert_eq!(ours.is_ok(), theirs, "{}: {answer}: {ours:?}", row.id);
            *(if theirs { &mut valid } else { &mut invalid }) += 1;
        }
    }
    [valid, invalid]
}

#[test]
fn one_thing_wrong_is_enough() {
    let truth = json!([{"book": {"city": ["New York", "NYC"], "nights": [2, ""]}}]);
    for right in
        [json!([{"book": {"city": "new-york", "nights": 2}}]), json!([{"book": {"city": "NYC"}}])]
    {
        assert_eq!(both(&truth, &right), [true, true], "{right}");
    }
    for wrong in [
        json!([]),
        json!([{"ping": {}}]),
        json!([{"book": {}}]),
        json!([{"book": {"city": "Boston"}}]),
        json!([{"book": {"city": "NYC", "nights": 3}}]),
        json!([{"book": {"city": "NYC", "nights": "2"}}]),
        json!([{"book": {"city": "NYC", "nights": 2.0}}]),
        json!([{"book": {"city": "NYC", "window": true}}]),
        json!([{"book": {"city": "NYC", "colour": "red"}}]),
        json!([{"book": {"city": "NYC"}}, {"ping": {}}]),
    ] {
        assert_eq!(both(&truth, &wrong), [false, false], "{wrong}");
    }
    let price = json!([{"book": {"city": ["Rome"], "price": [80]}}]);
    assert_eq!(both(&price, &json!([{"book": {"city": "Rome", "price": 80.0}}])), [true, true]);
    assert_eq!(both(&json!([]), &json!([])), [true, true]);
}

#[test]
fn parallel_calls_are_assigned_and_not_first_come() {
    // The first expected call would take "Rome", which the second needs.
    let truth = json!([{"book": {"city": ["Rome", "Oslo"]}}, {"book": {"city": ["Rome"]}}]);
    let calls = json!([{"book": {"city": "Rome"}}, {"book": {"city": "Oslo"}}]);
    assert_eq!(both(&truth, &calls), [false, true]);
    let twice = json!([{"book": {"city": "Oslo"}}, {"book": {"city": "Oslo"}}]);
    assert_eq!(both(&truth, &twice), [false, false]);
}

#[test]
fn what_strict_rules_mend() {
    // Allowed omission of a list is no leave to send an empty one.
    let truth = json!([{"book": {"city": ["Rome"], "guests": [["Ann"], ""]}}]);
    let empty = json!([{"book": {"city": "Rome", "guests": []}}]);
    assert_eq!(both(&truth, &empty), [true, false]);
    // Objects inside objects.
    let truth =
        json!([{"book": {"city": ["Rome"], "room": [{"beds": [2], "view": [{"sea": [true]}]}]}}]);
    let room = |view: Value| json!([{"book": {"city": "Rome", "room": {"beds": 2, "view": view}}}]);
    assert!(check(truth.clone(), &room(json!({"sea": true})), Rules::Strict));
    assert!(!check(truth.clone(), &room(json!({"sea": false})), Rules::Strict));
    assert!(!check(truth, &room(json!({"sea": true})), Rules::Bfcl));
    // True is not 1.
    let truth = json!([{"book": {"city": ["Rome"], "room": [{"beds": [1]}]}}]);
    let calls = json!([{"book": {"city": "Rome", "room": {"beds": true}}}]);
    assert_eq!(both(&truth, &calls), [true, false]);
}

#[test]
fn a_truth_that_cannot_be_met_is_refused() {
    for (truth, word) in [
        (json!({"book": {}}), "not a list"),
        (json!([{"fly": {}}]), "not among the tools"),
        (json!([{"book": {"city": "Rome"}}]), "list of allowed values"),
        (json!([{"book": {}, "ping": {}}]), "one tool"),
    ] {
        let why = Expected::parse(&truth.to_string(), &tools()).unwrap_err().to_string();
        assert!(why.contains(word), "{why}");
    }
}
