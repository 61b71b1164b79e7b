use serde_json::{Value, json};

use crate::{Message, Part, Role};

fn round_trip(wire: Value) -> Message {
    let message: Message = serde_json::from_value(wire.clone()).unwrap();
    assert_eq!(serde_json::to_value(&message).unwrap(), wire);
    message
}

#[test]
fn plain_text_round_trips_as_a_string() {
    let message = round_trip(json!({"role": "user", "content": "hello"}));
    assert_eq!(message, Message::user("hello"));
}

#[test]
fn unknown_parts_are_kept_exactly() {
    let image = json!({"type": "image_url", "image_url": {"url": "data:x", "detail": "low"}});
    let wire = json!({"role": "user", "content": [{"type": "text", "text": "look"}, image]});
    let message = round_trip(wire);
    assert_eq!(message.text(), "look");
    assert_eq!(message.content.parts()[1], Part::Other(image));
}

#[test]
fn tool_calls_round_trip_and_null_content_reads_as_empty() {
    let calls = json!([{"id": "c1", "type": "function",
        "function": {"name": "lookup", "arguments": "{\"id\": 7}"}}]);
    let message: Message =
        serde_json::from_value(json!({"role": "assistant", "content": null, "tool_calls": calls}))
            .unwrap();
    assert_eq!(message.text(), "");
    assert_eq!(message.tool_calls[0].function.name, "lookup");
    let again: Message =
        serde_json::from_value(json!({"role": "assistant", "tool_calls": null})).unwrap();
    assert!(again.tool_calls.is_empty());
}

#[test]
fn developer_is_system_and_a_part_without_a_type_is_refused() {
    let message: Message =
        serde_json::from_value(json!({"role": "developer", "content": "be brief"})).unwrap();
    assert_eq!(message.role, Role::System);
    let broken = json!({"role": "user", "content": [{"text": "no type"}]});
    assert!(serde_json::from_value::<Message>(broken).is_err());
}
