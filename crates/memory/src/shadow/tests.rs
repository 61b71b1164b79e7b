use serde_json::json;

use super::*;
use crate::{Argument, ToolSchema};

fn catalogue() -> Catalogue {
    let tool = |name: &str, access: Access, keys: &[&str]| ToolSchema {
        name: name.to_owned(),
        description: String::new(),
        access,
        target: None,
        target_argument: None,
        arguments: keys
            .iter()
            .map(|key| Argument { name: (*key).to_owned(), required: true, values: Vec::new() })
            .collect(),
    };
    Catalogue {
        tools: vec![
            tool("tickets.get", Access::Read, &["ticket_id"]),
            tool("tickets.update", Access::Write, &["ticket_id", "state"]),
        ],
        ..Catalogue::default()
    }
}

fn recorded(tool: &str, arguments: Value, result: &Value) -> Called {
    Called {
        tool: tool.to_owned(),
        arguments,
        result: Ok(result.to_string()),
        batch: 0,
        latency_ms: 0,
        tokens: 0,
    }
}

/// Fails the test when it is asked.
struct Forbidden;

impl Reader for Forbidden {
    fn read(&mut self, tool: &str, _: &Value) -> Result<Value, Failure> {
        panic!("`{tool}` was read live")
    }
}

fn recording() -> Vec<Called> {
    vec![
        recorded("tickets.get", json!({"ticket_id": 5}), &json!({"ticket_id": 5, "state": "open"})),
        recorded("tickets.get", json!({"ticket_id": 6}), &json!({"ticket_id": 6, "state": "new"})),
        recorded(
            "tickets.update",
            json!({"state": "closed", "ticket_id": 5}),
            &json!({"ok": true, "by": "ada@example.org", "count": 1}),
        ),
    ]
}

#[test]
fn reads_see_what_the_run_believes_it_wrote() {
    let (catalogue, mut reader) = (catalogue(), Forbidden);
    let policy = (Matching::Strict, Miss::Fail);
    let mut shadow = Shadow::new(&catalogue, recording(), policy, &mut reader);
    let update = json!({"ticket_id": 5, "state": "closed"});
    // The recorded answer's shape, without what it said; the order of keys does not matter.
    assert_eq!(
        shadow.call("tickets.update", &update).unwrap(),
        json!({"ok": true, "by": "…", "count": 1})
    );
    let five = shadow.call("tickets.get", &json!({"ticket_id": 5})).unwrap();
    assert_eq!(five, json!({"ticket_id": 5, "state": "closed"}));
    let six = shadow.call("tickets.get", &json!({"ticket_id": 6})).unwrap();
    assert_eq!(six["state"], "new");
    let report = shadow.finish();
    assert_eq!((report.recorded_reads, report.stubbed_writes, report.drifted), (2, 1, 0));
    assert!(report.unconsumed.is_empty());
}

#[test]
fn recordings_match_strictly_or_in_order_and_misses_are_told() {
    let (catalogue, mut reader) = (catalogue(), Forbidden);
    let strict = (Matching::Strict, Miss::Fail);
    let mut shadow = Shadow::new(&catalogue, recording(), strict, &mut reader);
    let missed = shadow.call("tickets.get", &json!({"ticket_id": 7})).unwrap_err();
    assert!(missed.message.contains("tickets.get"));
    let report = shadow.finish();
    assert_eq!((report.missed, report.unconsumed["tickets.get"]), (1, 2));

    let mut shadow =
        Shadow::new(&catalogue, recording(), (Matching::Fifo, Miss::Stub), &mut reader);
    assert_eq!(shadow.call("tickets.get", &json!({"ticket_id": 7})).unwrap()["ticket_id"], 5);
    shadow.call("tickets.get", &json!({"ticket_id": 6})).unwrap();
    let stub = shadow.call("tickets.get", &json!({"ticket_id": 9})).unwrap();
    assert_eq!(stub, json!({"ok": true, "ticket_id": 9}));
    let report = shadow.finish();
    assert_eq!((report.drifted, report.recorded_reads, report.stubbed_reads), (1, 2, 1));
}
