//! The documentation held against the parser: a table that drifts fails here.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::{ChatRequest, CompletionRequest, RequestError, fields::asked, refused};

const TABLE: &str = include_str!("../../../docs/API.md");

/// What the table says of each field: for chat, and for completions.
fn documented() -> BTreeMap<String, [String; 2]> {
    let rows = TABLE.lines().filter_map(|line| line.strip_prefix("| `"));
    let row = |row: &str| {
        let mut cells = row.split('|').map(str::trim);
        let name = cells.next()?.trim_matches('`').to_owned();
        let words = [cells.next()?.to_owned(), cells.next()?.to_owned()];
        let known = ["honoured", "accepted", "refused", "–"];
        words.iter().all(|word| known.contains(&word.as_str())).then_some((name, words))
    };
    rows.filter_map(row).collect()
}

fn chat(more: Value) -> Result<(), RequestError> {
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
    ChatRequest::parse(&merged(body, more)).map(|_| ())
}

fn completion(more: Value) -> Result<(), RequestError> {
    CompletionRequest::parse(&merged(json!({"model": "m", "prompt": "hi"}), more)).map(|_| ())
}

fn merged(mut body: Value, more: Value) -> Vec<u8> {
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body.to_string().into_bytes()
}

/// Checks one column of the table. `nonsense` is a value no field takes, so that an honoured field
/// must complain of it.
fn hold(column: usize, parse: impl Fn(Value) -> Result<(), RequestError>) {
    let documented = documented();
    assert!(documented.len() > 60, "only {} fields are documented", documented.len());
    let nonsense = json!([{"nonsense": [true]}]);
    for (name, words) in &documented {
        let mut more = serde_json::Map::new();
        more.insert(name.clone(), nonsense.clone());
        if name == "stream_options" {
            more.insert("stream".to_owned(), json!(true));
        }
        let result = parse(Value::Object(more));
        let complains = result.as_ref().err().and_then(RequestError::field) == Some(name);
        let is_refused = matches!(result, Err(RequestError::Refused { .. })) && complains;
        match words[column].as_str() {
            "honoured" => assert!(complains && !is_refused, "{name} is not read: {result:?}"),
            "refused" => assert!(is_refused, "{name} is not refused: {result:?}"),
            // Not a field of this endpoint, or one without an effect here: both pass.
            _ => assert!(result.is_ok(), "{name} does not pass: {result:?}"),
        }
    }
    let honoured: BTreeSet<&str> = documented
        .iter()
        .filter(|(_, words)| words[column] == "honoured")
        .map(|(name, _)| name.as_str())
        .collect();
    let refused: BTreeSet<&str> = documented
        .iter()
        .filter(|(_, words)| words[column] == "refused")
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(refused, refused::names()[column], "the table and the parser refuse the same");
    asked::take();
    parse(json!({"stream": true, "stream_options": {}, "tools": [
        {"type": "function", "function": {"name": "f"}}]}))
    .unwrap();
    // The fields of objects inside have no rows of their own.
    let inner = ["include_usage", "continuous_usage_stats"];
    let read: BTreeSet<&str> =
        asked::take().into_iter().filter(|name| !inner.contains(name)).collect();
    let unwritten: Vec<_> = read.difference(&honoured).collect();
    assert!(unwritten.is_empty(), "read but not documented: {unwritten:?}");
}

#[test]
fn the_chat_column_of_the_table_is_what_the_parser_does() {
    hold(0, chat);
}

#[test]
fn the_completions_column_of_the_table_is_what_the_parser_does() {
    hold(1, completion);
}

#[test]
fn null_is_absent_and_what_nobody_knows_passes() {
    let all: serde_json::Map<String, Value> =
        documented().into_keys().map(|name| (name, Value::Null)).collect();
    let mut all = Value::Object(all);
    for name in ["model", "messages", "prompt"] {
        all.as_object_mut().unwrap().remove(name);
    }
    chat(all.clone()).unwrap();
    completion(all).unwrap();
    chat(json!({"unheard_of": {"a": [1]}})).unwrap();
}

#[test]
fn values_that_ask_for_nothing_may_stay() {
    chat(json!({"modalities": ["text"], "echo": false, "best_of": 1, "length_penalty": 1.0}))
        .unwrap();
    completion(json!({"suffix": "", "use_beam_search": false})).unwrap();
}
