//! `POST /v1/outcomes`: `{event, target, at, payload}`, with events as a user interface knows them.

use serde::Deserialize;
use serde_json::{Value, json};
use understudy_ident::Timestamp;

use super::event::Event;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Thin {
    id: Option<String>,
    event: String,
    /// A response's id, or an object as `/v1/feedback` has them.
    target: Value,
    at: Option<Timestamp>,
    /// Whatever else `/v1/feedback` reads, `text` of an edit say.
    #[serde(default)]
    payload: serde_json::Map<String, Value>,
}

pub(super) fn read(value: Value) -> Result<Event, String> {
    let thin: Thin = serde_json::from_value(value).map_err(|why| why.to_string())?;
    let mut fields = thin.payload;
    match thin.target {
        Value::String(response) => fields.extend([("response_id".to_owned(), response.into())]),
        Value::Object(named) => fields.extend(named),
        _ => return Err("`target` is a response's id or an object of ids".to_owned()),
    }
    let Value::Object(meaning) = meaning(&thin.event)? else { return Err("no meaning".to_owned()) };
    for (name, value) in meaning {
        // What the payload says is more exact than what an event usually means.
        fields.entry(name).or_insert(value);
    }
    Event::parse(Value::Object(fields)).map(|event| Event {
        id: event.id.or(thin.id),
        at: event.at.or(thin.at),
        ..event
    })
}

/// What an event means, in the words of `/v1/feedback`.
fn meaning(event: &str) -> Result<Value, String> {
    let verified = |name: &str, score: f64| json!({"signal": "verifier", "name": name, "value": score, "source": "automated"});
    Ok(match event {
        "accept" => json!({"signal": "accept"}),
        "copy" | "insert" | "run" | "merge" | "keep" => {
            json!({"signal": "accept", "source": "implicit", "note": event})
        }
        "thumbs_up" | "like" => json!({"signal": "rating", "value": 1.0}),
        "thumbs_down" | "dislike" => json!({"signal": "rating", "value": 0.0}),
        "rate" => json!({"signal": "rating"}),
        "edit" => json!({"signal": "edit"}),
        "regenerate" => json!({"signal": "regenerate", "source": "implicit"}),
        "choose" => json!({"signal": "comparison"}),
        "abandon" | "rephrase" | "escalate" | "undo" => {
            json!({"signal": "abandon", "source": "implicit", "note": event})
        }
        "flag" | "report" => json!({"signal": "flag", "reason": event}),
        "tests_passed" => verified("tests", 1.0),
        "tests_failed" => verified("tests", 0.0),
        "schema_valid" => verified("schema", 1.0),
        "schema_invalid" => verified("schema", 0.0),
        "tool_succeeded" => verified("tool", 1.0),
        "tool_failed" => verified("tool", 0.0),
        "reward" => json!({"signal": "verifier", "name": "environment", "source": "automated"}),
        "judged" => json!({"signal": "verifier", "name": "judge", "source": "teacher"}),
        other => {
            return Err(format!(
                "unknown event `{other}`: use accept, copy, insert, run, merge, keep, thumbs_up, \
                 thumbs_down, rate, edit, regenerate, choose, abandon, rephrase, escalate, undo, \
                 flag, tests_passed, tests_failed, schema_valid, schema_invalid, tool_succeeded, \
                 tool_failed, reward or judged"
            ));
        }
    })
}
