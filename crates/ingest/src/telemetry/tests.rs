use rand::{Rng, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use understudy_message::{Message, Role};
use understudy_trajectory::{Conversation, Fidelity, Finish, Outcome, Signal, Source, Target};

use super::{
    Assembled, Compression, Decoded, Encoding, FeedbackTarget, Item, Payload, TelemetryError,
    Verdict, assemble, decode, decompress, steps,
};

mod assembly;
mod captures;
mod decoding;
mod mapping;
mod mutations;

/// A request with these spans in one scope, as JSON.
fn traces(scope: &str, spans: Vec<Value>) -> Vec<u8> {
    let scope = json!({"scope": {"name": scope}, "spans": spans});
    json!({"resourceSpans": [{"resource": {}, "scopeSpans": [scope]}]}).to_string().into_bytes()
}

fn logs(records: Vec<Value>) -> Vec<u8> {
    let scope = json!({"scope": {"name": "test"}, "logRecords": records});
    json!({"resourceLogs": [{"resource": {}, "scopeLogs": [scope]}]}).to_string().into_bytes()
}

/// A span whose ids are told by numbers, with attributes in plain JSON.
fn span(trace: u8, span: u8, parent: Option<u8>, at: u64, attributes: Value) -> Value {
    let pairs = attributes.as_object().unwrap().iter();
    let pairs: Vec<Value> =
        pairs.map(|(key, value)| json!({"key": key, "value": any(value)})).collect();
    json!({
        "traceId": format!("{trace:032x}"), "spanId": format!("{span:016x}"), "name": "op",
        "parentSpanId": parent.map(|id| format!("{id:016x}")),
        "startTimeUnixNano": (at * 1000).to_string(),
        "endTimeUnixNano": (at * 1000 + 500).to_string(), "attributes": pairs,
    })
}

fn any(value: &Value) -> Value {
    match value {
        Value::Null => json!({}),
        Value::Bool(flag) => json!({"boolValue": flag}),
        Value::Number(number) if number.is_i64() => json!({"intValue": number.to_string()}),
        Value::Number(number) => json!({"doubleValue": number}),
        Value::String(text) => json!({"stringValue": text}),
        Value::Array(items) => {
            json!({"arrayValue": {"values": items.iter().map(any).collect::<Vec<_>>()}})
        }
        Value::Object(map) => {
            let pairs: Vec<Value> =
                map.iter().map(|(key, value)| json!({"key": key, "value": any(value)})).collect();
            json!({"kvlistValue": {"values": pairs}})
        }
    }
}

/// A chat call with this input and output, in the GenAI conventions.
fn chat(input: Value, output: &Value) -> Value {
    json!({
        "gen_ai.operation.name": "chat",
        "gen_ai.input.messages": input.to_string(),
        "gen_ai.output.messages": json!([output]).to_string(),
    })
}

fn says(role: &str, text: &str) -> Value {
    json!({"role": role, "parts": [{"type": "text", "content": text}]})
}

fn json_traces(body: &[u8]) -> Decoded {
    decode(&Payload::OtlpTraces(Encoding::Json), body).unwrap()
}

fn assembled(spans: Vec<Value>) -> Assembled {
    assemble(&json_traces(&traces("test", spans)).items)
}

/// The only conversation there is.
fn only(assembled: &Assembled) -> &Conversation {
    assert_eq!(assembled.conversations.len(), 1, "{:#?}", assembled.conversations);
    &assembled.conversations[0]
}

fn text_of(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap()
}
