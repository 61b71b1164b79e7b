use serde_json::json;

use super::*;
use crate::canonical_json;

fn read(value: Value) -> RewardSpec {
    serde_json::from_value(value).unwrap()
}

fn refusal(value: Value) -> String {
    serde_json::from_value::<RewardSpec>(value).unwrap_err().to_string()
}

#[test]
fn a_word_is_a_table_with_nothing_else_said() {
    for word in ["exact", "number", "json_valid", "json_equal", "field_f1", "tool_call"] {
        let spec = read(json!(word));
        assert_eq!(spec, read(json!({"verify": word, "weight": 1.0})));
        assert_eq!((spec.name(), spec.weight), (word, 1.0));
        assert_eq!(canonical_json(&spec), format!("\"{word}\""));
    }
}

#[test]
fn a_table_of_toml_is_read_and_written_back() {
    #[derive(Deserialize)]
    struct Stage {
        rewards: Vec<RewardSpec>,
    }
    let text = r#"
        rewards = [
            "field_f1",
            { verify = "regex", pattern = '^\{', weight = 0.5, name = "opens" },
            { verify = "json_schema", schema = { type = "object", required = ["a"] } },
            { verify = "command", program = ["./check", "--strict"], timeout_s = 5 },
            { verify = "judge", url = "http://h/v1", model = "m", key_env = "KEY" },
        ]"#;
    let rewards = toml::from_str::<Stage>(text).unwrap().rewards;
    let names: Vec<&str> = rewards.iter().map(RewardSpec::name).collect();
    assert_eq!(names, ["field_f1", "opens", "json_schema", "command", "judge"]);
    let Verifier::Command(command) = &rewards[3].verify else { panic!("expected a command") };
    assert_eq!((command.timeout_s, command.isolate), (5.0, true));
    for spec in &rewards {
        assert_eq!(&read(serde_json::to_value(spec).unwrap()), spec);
    }
    let opens = r#"{"name":"opens","pattern":"^\\{","verify":"regex","weight":0.5}"#;
    assert_eq!(canonical_json(&rewards[1]), opens);
}

#[test]
fn the_spelling_of_defaults_does_not_change_the_canonical_form() {
    let long = json!({"verify": "number", "tolerance": 1e-6, "weight": 1});
    assert_eq!(canonical_json(&read(long)), "\"number\"");
}

#[test]
fn what_is_unknown_or_missing_is_named() {
    assert!(refusal(json!("jsonvalid")).contains("unknown variant `jsonvalid`"));
    for verify in ["exact", "json_valid", "field_f1", "tool_call"] {
        let message = refusal(json!({"verify": verify, "patern": "x"}));
        assert!(message.starts_with("unknown field `patern`"), "{verify}: {message}");
    }
    let command = json!({"verify": "command", "program": ["x"], "timeout": 1});
    assert!(refusal(command).contains("unknown field `timeout`, expected one of `program`"));
    assert!(refusal(json!("regex")).contains("missing field `pattern`"));
    assert!(refusal(json!({"weight": 1})).contains("verify"));
    assert!(refusal(json!(3)).contains("a verifier's name, or a table"));
}

#[test]
fn values_no_reward_can_have_are_refused() {
    for (table, named) in [
        (json!({"verify": "exact", "weight": 0}), "`weight`"),
        (json!({"verify": "exact", "name": " "}), "`name`"),
        (json!({"verify": "number", "tolerance": -1}), "`tolerance`"),
        (json!({"verify": "command", "program": []}), "`program`"),
        (json!({"verify": "command", "program": ["x"], "timeout_s": 0}), "`timeout_s`"),
        (json!({"verify": "command", "program": ["x"], "memory_mb": 0}), "`memory_mb`"),
        (json!({"verify": "judge", "url": "u", "model": "m", "timeout_s": 1e9}), "`timeout_s`"),
    ] {
        let message = refusal(table);
        assert!(message.contains(named), "{message}");
    }
}
