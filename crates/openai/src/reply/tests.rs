use serde_json::{Value, json};
use understudy_inference::{
    Completion, Delta, FinishReason, ScoredToken, Served, ServedAdapter, StopReason, Timing,
    TopToken, Usage,
};
use understudy_message::{FunctionCall, ToolCall};

use super::{ChatWriter, ReplyHead, ReplyWriter, fingerprint};
use crate::ChatRequest;

fn served() -> Served {
    let adapter =
        ServedAdapter { alias: "a".to_owned(), generation: "0123456789abcdef".to_owned() };
    Served { base: "base".to_owned(), adapter: Some(adapter) }
}

#[test]
fn a_fingerprint_names_the_weights_and_who_holds_them_how() {
    let base = Served { adapter: None, ..served() };
    let known = Some("89abcdef0123456789");
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(fingerprint(&base, None), format!("fp_base_base_{version}"));
    assert_eq!(fingerprint(&base, known), format!("fp_base_base_{version}_89abcdef0123"));
    assert_eq!(
        fingerprint(&served(), known),
        format!("fp_base_0123456789ab_{version}_89abcdef0123")
    );
}

fn writer(more: Value) -> ChatWriter {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    let request = ChatRequest::parse(body.to_string().as_bytes()).unwrap();
    let head = ReplyHead {
        id: "chatcmpl-stable-7".to_owned(),
        created: 1,
        model: "a#0123".to_owned(),
        fingerprint: fingerprint(&served(), None),
        generation: Some("0123456789abcdef".to_owned()),
    };
    ChatWriter::new(head, &request, None, None)
}

fn completion(text: &str, reason: FinishReason) -> Completion {
    let usage = Usage { prompt_tokens: 4, completion_tokens: 2, cached_tokens: 3 };
    Completion::of_text(served(), text.to_owned(), reason, usage, Timing::default())
}

#[test]
fn calls_of_a_remote_model_are_streamed_before_the_reason() {
    let mut writer = writer(json!({"stream": true, "stream_options": {"include_usage": true}}));
    writer.open();
    writer.delta(0, &"so".into());
    let function = FunctionCall { name: "f".to_owned(), arguments: "{}".to_owned() };
    let call = ToolCall { id: "c1".to_owned(), kind: "function".to_owned(), function };
    let made = Completion { tool_calls: vec![call], ..completion("so", FinishReason::ToolCalls) };
    let chunks = writer.done(0, &made);
    let deltas: Vec<&Value> = chunks.iter().map(|chunk| &chunk["choices"][0]["delta"]).collect();
    assert_eq!(deltas[0]["tool_calls"][0]["id"], "c1");
    assert_eq!(deltas[1]["tool_calls"][0]["function"]["arguments"], "{}");
    assert_eq!(chunks[2]["choices"][0]["finish_reason"], "tool_calls");
    let end = writer.end();
    assert_eq!(end[0]["usage"]["prompt_tokens_details"]["cached_tokens"], 3);
    assert_eq!(end[0]["adapter_generation"], "0123456789abcdef");
    assert_eq!(
        end[0]["system_fingerprint"].as_str().unwrap().split('_').nth(2),
        Some("0123456789ab")
    );
}

#[test]
fn scores_that_json_cannot_hold_and_halves_of_characters_are_written_all_the_same() {
    let mut writer = writer(json!({"logprobs": true, "top_logprobs": 1, "stream": true}));
    let top = TopToken { id: 9, bytes: vec![0xc3], log_prob: f32::NEG_INFINITY };
    let token =
        ScoredToken { id: 9, bytes: vec![0xc3], log_prob: -1.5, rank: None, top: vec![top] };
    let chunks = writer.delta(0, &Delta { text: String::new(), tokens: vec![token] });
    let written = &chunks[0]["choices"][0]["logprobs"]["content"][0];
    assert_eq!((&written["token"], &written["bytes"]), (&json!("bytes:\\xc3"), &json!([195])));
    assert_eq!(written["top_logprobs"][0]["logprob"], -9999.0);
}

#[test]
fn a_reason_is_one_clients_know() {
    let last = |reason, stop| {
        let done = Completion { stop_reason: stop, ..completion("x", reason) };
        let chunks = writer(json!({})).done(0, &done);
        let choice = chunks.last().unwrap()["choices"][0].clone();
        (choice["finish_reason"].clone(), choice["stop_reason"].clone())
    };
    assert_eq!(last(FinishReason::Aborted, None), (json!("stop"), Value::Null));
    assert_eq!(
        last(FinishReason::Length, Some(StopReason::Deadline)),
        (json!("length"), json!("deadline"))
    );
    assert_eq!(last(FinishReason::Stop, Some(StopReason::Token(7))), (json!("stop"), json!(7)));
}
