//! Bodies that are broken, too large, or meant to cost more than they say.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use serde_json::{Value, json};

use super::{CHAT, COMPLETIONS, Server, Settings, chat, start, start_as, with};

/// No reply to a bad request is longer than this, however long the request was.
const MOST: usize = 3000;

fn refused(server: &Server, path: &str, body: &Value) -> Value {
    let reply = server.post(path, body);
    assert_eq!(reply.status / 100, 4, "{}", reply.text.get(..200).unwrap_or(&reply.text));
    assert!(reply.text.len() < MOST, "{} bytes say what is wrong", reply.text.len());
    reply.json()["error"].clone()
}

#[test]
fn what_a_request_brings_along_is_not_sent_back_at_length() {
    let server = start();
    let long = "x".repeat(1 << 20);
    let inner = json!({"structured_outputs": {long.clone(): 1}});
    assert_eq!(refused(&server, CHAT, &with(chat("hi"), inner))["param"], "structured_outputs");
    refused(&server, CHAT, &with(chat("hi"), json!({"model": long})));
    refused(&server, CHAT, &with(chat("hi"), json!({"messages": [{"role": long}]})));
    refused(&server, "/v1/load_lora_adapter", &json!({"lora_name": "a", "lora_path": long}));
    refused(&server, "/v1/rollback_lora_adapter", &json!({"lora_name": long}));
}

#[test]
fn a_name_for_the_request_must_fit_a_header() {
    let server = start();
    for field in ["request_id", "session_id"] {
        for name in ["x".repeat(257), "two\nlines".to_owned(), "é".to_owned()] {
            server.refuses(CHAT, &with(chat("hi"), json!({field: name})), 400, field);
        }
    }
    let named = with(chat("hi"), json!({"request_id": "x".repeat(256)}));
    assert_eq!(server.post(CHAT, &named).header("x-request-id").map(str::len), Some(256));
}

#[test]
fn schemas_that_ask_for_more_than_a_reply_are_refused_at_once() {
    let server = start();
    let pair = |next: &str| {
        let of = json!({ "$ref": next });
        json!({"type": "object", "properties": {"a": of, "b": of}, "required": ["a", "b"]})
    };
    let mut doubling = json!({"$ref": "#/$defs/d0", "$defs": {"d25": {"type": "null"}}});
    for n in 0..25 {
        doubling["$defs"][format!("d{n}")] = pair(&format!("#/$defs/d{}", n + 1));
    }
    for schema in [
        json!({"type": "array", "minItems": 1_000_000_000}),
        json!({"type": "string", "minLength": 1_000_000_000_000_u64}),
        json!({"$ref": "#"}),
        json!({"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}),
        doubling,
    ] {
        let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
        refused(&server, CHAT, &with(chat("hi"), json!({"response_format": format})));
    }
    assert_eq!(server.post(CHAT, &chat("hi")).status, 200);
}

#[test]
fn a_template_of_the_requests_own_runs_only_where_it_was_allowed() {
    // Doubles a text with every step: cheap in steps, and ruinous in memory.
    let doubling = format!("{{% set x = 'xx' %}}{}", "{% set x = x ~ x %}".repeat(40));
    let asked = with(chat("hi"), json!({"chat_template": doubling}));
    let server = start();
    for path in [CHAT, "/tokenize"] {
        server.refuses(path, &asked, 400, "chat_template");
        let absent = with(chat("hi"), json!({"chat_template": null}));
        assert_eq!(server.post(path, &absent).status, 200, "{path}");
    }
    let open = start_as(Settings { templates: true, ..Settings::default() });
    let reply = open.post("/tokenize", &with(chat("hi"), json!({"chat_template": "x"})));
    assert!(reply.text.contains("other chat templates"), "it reached the engine: {}", reply.text);
}

#[test]
fn forbidden_words_and_stops_are_few_and_short() {
    let server = start();
    let words: Vec<String> = (0..100_000).map(|n| format!("word {n}")).collect();
    for (field, value) in [
        ("bad_words", json!(words)),
        ("bad_words", json!(["x".repeat(257)])),
        ("stop", json!(["x".repeat(1025)])),
    ] {
        let asked = with(chat("hi"), json!({field: value}));
        let error = refused(&server, CHAT, &asked);
        assert_eq!(error["param"], field, "{error}");
    }
}

#[test]
fn a_fault_is_named_as_the_endpoint_calls_it() {
    let server = start();
    let long = "x".repeat(5000);
    server.refuses(CHAT, &chat(&long), 400, "messages");
    server.refuses(COMPLETIONS, &json!({"model": "mock", "prompt": long}), 400, "prompt");
    let generate = "/inference/v1/generate";
    server.refuses(generate, &json!({"token_ids": vec![120; 5000]}), 400, "token_ids");
    server.refuses(generate, &json!({"token_ids": [9999]}), 400, "token_ids");
    let hot = json!({"token_ids": [1], "sampling_params": {"temperature": 9}});
    server.refuses(generate, &hot, 400, "sampling_params.temperature");
    let reply = server.post_with(CHAT, &chat("hi"), &[("x-understudy-trajectory", "!")]);
    assert_eq!(reply.json()["error"]["param"], "x-understudy-trajectory");
}

#[test]
fn half_characters_read_the_same_streamed_and_whole() {
    let server = start();
    for seed in 0..12 {
        // Three bytes that are a character in this order, and halves of one in any other.
        let body = json!({"model": "mock", "prompt": "xxxx", "max_tokens": 24, "seed": seed,
            "allowed_token_ids": [0xE2, 0x82, 0xAC], "ignore_eos": true});
        let whole = server.post(COMPLETIONS, &body).json()["choices"][0]["text"].clone();
        let chunks = server.post(COMPLETIONS, &with(body, json!({"stream": true}))).events();
        let texts = chunks.iter().filter_map(|chunk| chunk["choices"][0]["text"].as_str());
        assert_eq!(json!(texts.collect::<String>()), whole, "seed {seed}");
    }
}

#[test]
fn a_body_nobody_asked_for_does_not_cost_the_connection() {
    let server = start();
    for path in ["/pause", "/resume", "/ping", "/nowhere", "/health"] {
        let mut socket = TcpStream::connect(server.address).unwrap();
        let ask = |connection: &str| {
            format!(
                "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: {connection}\r\ncontent-length: 2\r\n\r\n"
            )
        };
        for connection in ["keep-alive", "close"] {
            socket.write_all(ask(connection).as_bytes()).unwrap();
            // The body comes when an answer that did not wait for it would be long gone.
            std::thread::sleep(Duration::from_millis(30));
            socket.write_all(b"{}").unwrap();
        }
        let mut said = String::new();
        socket.read_to_string(&mut said).unwrap();
        assert_eq!(said.matches("HTTP/1.1 ").count(), 2, "{path} answered {said}");
    }
}

#[test]
fn whatever_is_refused_is_refused_in_the_envelope() {
    let server = start();
    for path in ["/pause?clear_cache=maybe", "/v1/unload_lora_adapter?format=a&format=b"] {
        let reply = server.post(path, &json!({"lora_name": "a"}));
        assert_eq!((reply.status, &reply.json()["error"]["code"]), (400, &json!(400)));
    }
    for (path, status) in [("/v1/models/%ff", 400), ("/v1/chat/completions", 405), ("/x", 404)] {
        assert_eq!(server.get(path).json()["error"]["code"], status);
    }
}
