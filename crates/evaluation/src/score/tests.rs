use understudy_manifest::Scorer;

use super::*;

fn value(scorer: Scorer, expected: &str, output: &str) -> f64 {
    score(&scorer, expected, output).value
}

fn f1(expected: &str, output: &str) -> f64 {
    value(Scorer::FieldF1, expected, output)
}

#[test]
fn exact_forgives_only_the_whitespace_around() {
    assert_eq!(value(Scorer::Exact, "billing", " billing\n"), 1.0);
    assert_eq!(value(Scorer::Exact, "billing", "Billing"), 0.0);
    assert_eq!(value(Scorer::Exact, "a b", "a  b"), 0.0);
}

#[test]
fn json_with_anything_around_it_is_not_json() {
    assert_eq!(value(Scorer::JsonValid, "", "\n {\"a\": [1, 2]} "), 1.0);
    for wrong in ["", "{}{}", "{\"a\":1} done", "```json\n{}\n```", "{'a': 1}", "{\"a\":1,}", "NaN"]
    {
        assert_eq!(value(Scorer::JsonValid, "", wrong), 0.0, "{wrong}");
        assert_eq!(value(Scorer::JsonEqual, "{}", wrong), 0.0, "{wrong}");
        assert_eq!(f1("{\"a\":1}", wrong), 0.0, "{wrong}");
    }
}

#[test]
fn json_is_equal_by_meaning() {
    let equal = |a, b| value(Scorer::JsonEqual, a, b) == 1.0;
    assert!(equal(r#"{"a":1,"b":[true,null]}"#, r#"{ "b": [true, null], "a": 1.0 }"#));
    assert!(equal("100", "1e2"));
    assert!(equal("0", "-0.0"));
    assert!(!equal("[1,2]", "[2,1]"));
    assert!(!equal("1", "\"1\""));
    assert!(!equal("{}", "{\"a\":null}"));
    // Two integers that are one and the same as floats.
    assert!(!equal("9007199254740993", "9007199254740992"));
    assert!(!equal("0.1", "0.2"));
}

#[test]
fn a_field_is_compared_alone() {
    let field = |expected, output| value(Scorer::Field("intent".to_owned()), expected, output);
    assert_eq!(field(r#"{"intent":"a","x":1}"#, r#"{"x":2,"intent":"a"}"#), 1.0);
    assert_eq!(field(r#"{"intent":"a"}"#, r#"{"intent":"b"}"#), 0.0);
    assert_eq!(field(r#"{"intent":"a"}"#, r#"{"x":1}"#), 0.0);
    assert_eq!(field(r#"{"x":1}"#, r#"{"x":2}"#), 1.0);
    assert_eq!(field(r#"{"intent":"a"}"#, r#"["intent"]"#), 0.0);
}

#[test]
fn field_f1_counts_pairs() {
    let expected = r#"{"intent":"play","slots":{"artist":["U2","Cream"],"year":1990}}"#;
    let output = r#"{"slots":{"artist":["Cream","Muse"],"year":1990.0},"intent":"play"}"#;
    let Score { value, hits, possible } = score(&Scorer::FieldF1, expected, output);
    // Shared: intent, Cream, year. Missing: U2. Invented: Muse.
    assert_eq!((hits, possible), (6.0, 8.0));
    assert_eq!(value, 0.75);
}

#[test]
fn lists_are_multisets() {
    assert_eq!(f1(r#"["a","a","b"]"#, r#"["b","a","a"]"#), 1.0);
    assert_eq!(f1(r#"["a","a"]"#, r#"["a"]"#), 2.0 / 3.0);
    assert_eq!(f1(r#"{"a":["x"]}"#, r#"{"a":"x"}"#), 0.0);
}

#[test]
fn leaves_are_normalised_but_keep_type_and_case() {
    assert_eq!(f1(r#"{"a":"the  big\tapple "}"#, r#"{"a":"the big apple"}"#), 1.0);
    assert_eq!(f1(r#"{"a":"1"}"#, r#"{"a":1}"#), 0.0);
    assert_eq!(f1(r#"{"a":"Ann"}"#, r#"{"a":"ann"}"#), 0.0);
    assert_eq!(f1(r#"{"a":null}"#, r"{}"), 0.0);
    assert_eq!(f1(r#"{"a":null}"#, r#"{"a":null}"#), 1.0);
}

#[test]
fn paths_cannot_be_forged_by_keys() {
    assert_eq!(f1(r#"{"a":{"b":1}}"#, r#"{"a/b":1}"#), 0.0);
    assert_eq!(f1(r#"{"a":[1]}"#, r#"{"a":{"~":1}}"#), 0.0);
}

#[test]
fn nothing_expected_and_nothing_given_is_right() {
    assert_eq!(f1("{}", r#"{"slots":{}}"#), 1.0);
    assert_eq!(f1("{}", r#"{"a":1}"#), 0.0);
    assert_eq!(f1("{}", "no json"), 0.0);
    assert_eq!(score(&Scorer::FieldF1, "{}", "{}").possible, 0.0);
}

#[test]
fn an_answer_that_never_came_is_no_better_than_nonsense() {
    let expected = r#"{"a":1,"b":[2,3]}"#;
    let nonsense = score(&Scorer::FieldF1, expected, "?");
    assert_eq!(nonsense, Score { value: 0.0, hits: 0.0, possible: 3.0 });
    assert_eq!(Score::unanswered(&Scorer::FieldF1, expected), nonsense);
    // An empty text would be an exact match of an empty expectation; no answer is not.
    assert_eq!(Score::unanswered(&Scorer::Exact, "").value, 0.0);
}
