use serde_json::{Value, json};
use understudy_manifest::RewardSpec;
use understudy_message::Message;
use understudy_supportdesk::Wording;

use crate::{Attempt, Flag, Question, Reward, RewardError, Rewards, Scored, number::last_number};

const NO_RECORD: Value = Value::Null;

fn rewards(specs: Value) -> Rewards {
    let specs: Vec<RewardSpec> = serde_json::from_value(specs).unwrap();
    Rewards::of(&specs).unwrap()
}

fn refusal(specs: Value) -> RewardError {
    let specs: Vec<RewardSpec> = serde_json::from_value(specs).unwrap();
    Rewards::of(&specs).unwrap_err()
}

fn scored(rewards: &Rewards, completion: &[Message], expected: Option<&Message>) -> Scored {
    let record = &NO_RECORD;
    rewards.score(&Attempt { prompt: &[], completion, expected, record, completion_tokens: 0 })
}

/// What one verifier thinks of a text.
fn opinion(spec: Value, expected: &str, answer: &str) -> Option<f64> {
    let expected = Message::assistant(expected);
    scored(&rewards(json!([spec])), &[Message::assistant(answer)], Some(&expected)).total
}

#[test]
fn exact_forgives_only_whitespace_around_unless_told_to() {
    assert_eq!(opinion(json!("exact"), "a b", " a b\n"), Some(1.0));
    assert_eq!(opinion(json!("exact"), "a b", "a  b"), Some(0.0));
    let normalised = json!({"verify": "exact", "normalise_whitespace": true});
    assert_eq!(opinion(normalised.clone(), "a b", "a \n b"), Some(1.0));
    assert_eq!(opinion(normalised, "a b", "ab"), Some(0.0));
}

#[test]
fn the_last_number_is_found_as_people_write_it() {
    for (text, number) in [
        ("so it costs $1,234.50.", Some(1234.5)),
        ("#### 72", Some(72.0)),
        ("-3", Some(-3.0)),
        ("it fell by \u{2212}4 degrees", Some(-4.0)),
        ("-$5", Some(-5.0)),
        ("product A-17", Some(17.0)),
        ("9-4", Some(4.0)),
        ("(2)-4", Some(4.0)),
        ("1,2", Some(2.0)),
        ("1e3 or .5", Some(0.5)),
        ("2.5e-1", Some(0.25)),
        ("1e999", None),
        ("none", None),
    ] {
        assert_eq!(last_number(text), number, "{text}");
    }
}

#[test]
fn numbers_are_equal_within_the_tolerance() {
    assert_eq!(opinion(json!("number"), "#### 72", "That makes 72.0."), Some(1.0));
    assert_eq!(opinion(json!("number"), "72", "72 or 73"), Some(0.0));
    assert_eq!(opinion(json!("number"), "72", "many"), Some(0.0));
    assert_eq!(opinion(json!("number"), "many", "72"), None);
    let loose = json!({"verify": "number", "tolerance": 0.5});
    assert_eq!(opinion(loose.clone(), "72", "72.5"), Some(1.0));
    assert_eq!(opinion(loose, "72", "72.6"), Some(0.0));
}

#[test]
fn json_is_judged_by_meaning_and_never_repaired() {
    for wrong in ["", "```json\n{\"a\":1}\n```", "{\"a\":1} done", "{'a':1}"] {
        for verify in ["json_valid", "json_equal", "field_f1"] {
            assert_eq!(opinion(json!(verify), "{\"a\":1}", wrong), Some(0.0), "{verify} {wrong}");
        }
    }
    assert_eq!(opinion(json!("json_equal"), r#"{"a":1,"b":2}"#, r#"{"b":2.0,"a":1}"#), Some(1.0));
    assert_eq!(opinion(json!("field_f1"), r#"{"a":1,"b":2}"#, r#"{"a":1}"#), Some(2.0 / 3.0));
}

#[test]
fn an_expected_answer_that_is_not_json_is_a_failure_and_not_a_zero() {
    let expected = Message::assistant("not json");
    let answer = [Message::assistant("{}")];
    let scored = scored(&rewards(json!(["field_f1", "json_valid"])), &answer, Some(&expected));
    assert_eq!(scored.total, Some(1.0));
    assert_eq!(scored.components[0], ("field_f1".to_owned(), None));
    assert!(matches!(scored.failures[0].why, RewardError::ExpectedNotJson(_)));
}

#[test]
fn a_schema_is_compiled_once_and_fetches_nothing() {
    let schema = json!({"type": "object", "required": ["a"],
        "properties": {"a": {"$ref": "#/$defs/whole"}}, "$defs": {"whole": {"type": "integer"}}});
    let spec = json!({"verify": "json_schema", "schema": schema});
    assert_eq!(opinion(spec.clone(), "", r#"{"a": 1}"#), Some(1.0));
    assert_eq!(opinion(spec.clone(), "", r#"{"a": "1"}"#), Some(0.0));
    assert_eq!(opinion(spec, "", "?"), Some(0.0));
    for wrong in [
        json!({"type": "objekt"}),
        json!({"$ref": "http://127.0.0.1:9/schema.json"}),
        json!({"$ref": "file:///etc/hostname"}),
    ] {
        let error = refusal(json!([{"verify": "json_schema", "schema": wrong}]));
        assert!(matches!(error, RewardError::Schema { .. }), "{error}");
    }
}

#[test]
fn a_pattern_must_occur_and_must_be_one() {
    let spec = json!({"verify": "regex", "pattern": "^ok (\\d+)$"});
    assert_eq!(opinion(spec.clone(), "", "ok 12"), Some(1.0));
    assert_eq!(opinion(spec, "", "ok"), Some(0.0));
    let error = refusal(json!([{"verify": "regex", "pattern": "("}]));
    assert!(matches!(&error, RewardError::Pattern { reward, .. } if reward == "regex"));
}

#[test]
fn tool_calls_match_by_meaning_in_every_form() {
    let wanted = r#"{"name": "book", "arguments": {"seats": 2, "to": "Rome"}}"#;
    let tool = |answer: &str| opinion(json!("tool_call"), wanted, answer);
    let right = r#"{"arguments": {"to": "Rome", "seats": 2.0}, "name": "book"}"#;
    assert_eq!(tool(right), Some(1.0));
    assert_eq!(tool(&format!("I book.\n<tool_call>\n{right}\n</tool_call>")), Some(1.0));
    assert_eq!(tool(&format!("<tool_call>{right}")), Some(1.0));
    assert_eq!(tool(&right.replace("Rome", "Oslo")), Some(0.0));
    assert_eq!(tool(&right.replace("book", "cook")), Some(0.0));
    assert_eq!(tool(&format!("{right}\n{right}")), Some(0.0));
    assert_eq!(tool("<tool_call>{\"name\": \"book\"</tool_call>"), Some(0.0));
    assert_eq!(tool("Two seats to Rome, please."), Some(0.0));

    let native: Message = serde_json::from_value(json!({"role": "assistant", "tool_calls": [
        {"id": "1", "type": "function", "function": {"name": "book",
            "arguments": "{\"seats\": 2, \"to\": \"Rome\"}"}}]}))
    .unwrap();
    let expected = Message::assistant(wanted);
    let rewards = rewards(json!(["tool_call"]));
    assert_eq!(scored(&rewards, &[native], Some(&expected)).total, Some(1.0));
}

#[test]
fn where_no_call_is_expected_calling_is_wrong_and_order_is_free_over_turns() {
    let call = |name: &str| format!(r#"{{"name": "{name}", "arguments": {{}}}}"#);
    assert_eq!(opinion(json!("tool_call"), "Hello!", "Hi."), Some(1.0));
    assert_eq!(opinion(json!("tool_call"), "Hello!", &call("greet")), Some(0.0));
    let expected = Message::assistant(format!("{}\n{}", call("a"), call("b")));
    let trajectory = [
        Message::assistant(call("b")),
        Message::new(understudy_message::Role::Tool, call("c")),
        Message::assistant(call("a")),
    ];
    let rewards = rewards(json!(["tool_call"]));
    assert_eq!(scored(&rewards, &trajectory, Some(&expected)).total, Some(1.0));
    assert_eq!(scored(&rewards, &trajectory[..1], Some(&expected)).total, Some(0.0));
}

#[test]
fn the_total_is_the_weighted_sum_of_those_with_an_opinion() {
    let both = rewards(json!([
        {"verify": "exact", "weight": 2},
        {"verify": "json_valid", "weight": 0.5},
        {"verify": "regex", "pattern": "sorry", "weight": -1, "name": "apology"},
    ]));
    let answer = [Message::assistant("\"sorry\"")];
    let known = scored(&both, &answer, Some(&answer[0]));
    assert_eq!(known.total, Some(2.0 + 0.5 - 1.0));
    let components: Vec<(&str, Option<f64>)> =
        known.components.iter().map(|(name, score)| (name.as_str(), *score)).collect();
    let all = [("exact", Some(1.0)), ("json_valid", Some(1.0)), ("apology", Some(1.0))];
    assert_eq!(components, all);
    let unknown = scored(&both, &answer, None);
    assert_eq!((unknown.total, unknown.components[0].1), (Some(0.5 - 1.0), None));
    assert_eq!(scored(&rewards(json!(["exact", "number"])), &answer, None).total, None);
}

#[test]
fn two_rewards_of_one_name_are_refused() {
    let regex = json!({"verify": "regex", "pattern": "a"});
    assert_eq!(refusal(json!([regex, regex])), RewardError::Duplicate("regex".to_owned()));
}

#[test]
fn a_reward_of_ones_own_that_breaks_or_gives_no_number_is_a_failure() {
    #[derive(Debug)]
    struct Odd;

    impl Reward for Odd {
        fn name(&self) -> &'static str {
            "odd"
        }

        fn score(&self, attempt: &Attempt<'_>) -> Result<Option<f64>, RewardError> {
            Ok(Some(if attempt.answer().is_empty() { f64::NAN } else { 0.25 }))
        }
    }

    let rewards = Rewards::new(vec![(2.0, Box::new(Odd))]).unwrap();
    assert_eq!(scored(&rewards, &[Message::assistant("x")], None).total, Some(0.5));
    let broken = scored(&rewards, &[], None);
    assert_eq!((broken.total, broken.failures.len()), (None, 1));
    assert!(matches!(broken.failures[0].why, RewardError::NotFinite(_)));
}

/// What the answers of `expected` let a constant earn.
fn constants(specs: Value, expected: &[&str]) -> crate::ConstantAnswers {
    let expected: Vec<Message> = expected.iter().map(|text| Message::assistant(*text)).collect();
    let question = |expected| Question { prompt: &[], expected, record: &NO_RECORD };
    let sample: Vec<Question<'_>> = expected.iter().map(question).collect();
    rewards(specs).constant_answers(&sample, Rewards::CONSTANT_SHARE)
}

#[test]
fn a_constant_that_pays_is_found_and_flagged() {
    let triage = [
        r#"{"intent":"refund","priority":"normal","fields":{"order":"A1"}}"#,
        r#"{"intent":"login","priority":"normal","fields":{"account":"bo"}}"#,
        r#"{"intent":"refund","priority":"high","fields":{"order":"A2"}}"#,
    ];
    let found = constants(json!(["json_valid", "field_f1"]), &triage);
    assert_eq!((found.perfect, found.questions), (2.0, 3));
    let best = &found.constants[0];
    assert_eq!(best.what, "the commonest keys and their commonest values");
    // `{"fields":{"order":"A1"},"intent":"refund","priority":"normal"}` has 3, 1 and 1 of 3 right.
    assert!((best.mean - (1.0 + (1.0 + 1.0 / 3.0 + 1.0 / 3.0) / 3.0)).abs() < 1e-12);
    assert_eq!(found.flag, Some(Flag::ConstantEarns { share: best.share }));
    let empty = found.constants.iter().find(|c| c.what == "an empty object").unwrap();
    assert_eq!((empty.mean, empty.share), (1.0, 0.5));
}

/// Why the check exists: on the simulated support desk most of what a common choice of rewards pays
/// comes for free.
#[test]
fn on_the_support_desk_a_constant_earns_most_of_valid_json_with_f1_and_nothing_of_equality() {
    let tickets = understudy_supportdesk::tickets(1, Wording::Production, 350);
    let answers: Vec<String> = tickets.iter().map(|ticket| ticket.triage.to_json()).collect();
    let answers: Vec<&str> = answers.iter().map(String::as_str).collect();
    let free = constants(json!(["json_valid", "field_f1"]), &answers);
    assert!(matches!(free.flag, Some(Flag::ConstantEarns { share }) if share > 0.5), "{free:?}");
    let earned = constants(json!(["json_equal"]), &answers);
    assert_eq!(earned.flag, None);
    assert!(earned.constants[0].share < 0.05, "{:?}", earned.constants[0]);
}

#[test]
fn rewards_that_only_the_right_answer_earns_raise_no_flag() {
    let numbers = ["12", "31", "57", "8", "44"];
    let found = constants(json!(["number"]), &numbers);
    assert_eq!((found.perfect, found.flag), (1.0, None));
    assert_eq!(found.constants[0].mean, 0.2);
    assert!(constants(json!(["number"]), &[]).flag.is_none());
}

#[test]
fn rewards_that_the_expected_answers_do_not_earn_are_flagged() {
    let found = constants(json!(["json_valid"]), &["yes", "no"]);
    assert_eq!(found.flag, Some(Flag::PerfectEarnsNothing));
}

#[test]
fn rewards_that_cost_are_not_asked_thousands_of_times() {
    let judge = json!({"verify": "judge", "url": "http://127.0.0.1:9/v1", "model": "m"});
    let found = constants(json!(["exact", judge.clone()]), &["a", "b"]);
    assert_eq!(found.not_asked, ["judge"]);
    let note = rewards(json!([judge])).notes().remove(0);
    assert_eq!(note, ("judge".to_owned(), "judged by `m` with prompt 1".to_owned()));
    assert_eq!(found.constants[0].mean, 0.5);
}
