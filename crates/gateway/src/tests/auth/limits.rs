//! Asking for too much, too often, or of somebody else's verdict.

use std::time::Duration;

use serde_json::{Value, json};
use understudy_access::{Limits, Scope};
use understudy_inference::MockConfig;

use super::{Guarded, HERE, guarded, guarded_on};
use crate::tests::{CHAT, Settings, chat, with};

fn reason(reply: &crate::tests::Reply) -> (u16, Value) {
    (reply.status, reply.json()["error"]["reason"].clone())
}

#[test]
fn requests_a_minute_are_counted_and_told() {
    let server = guarded();
    let key = server.limited(Limits { requests_per_minute: Some(3), ..Limits::default() });
    for left in [2, 1, 0] {
        let reply = server.post_as(&key, CHAT, &chat("hi"));
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("x-ratelimit-limit-requests"), Some("3"));
        assert_eq!(reply.header("x-ratelimit-remaining-requests"), Some(left.to_string().as_str()));
    }
    let refused = server.post_as(&key, CHAT, &chat("hi"));
    assert_eq!(reason(&refused), (429, json!("rate_limit_exceeded")));
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((15..=21).contains(&wait), "{wait}");
    let exactly: u64 = refused.header("retry-after-ms").unwrap().parse().unwrap();
    assert_eq!(exactly.div_ceil(1000), wait, "{exactly} ms");
    // Another key's are its own.
    assert_eq!(server.post_as(&server.key(&[Scope::Infer]), CHAT, &chat("hi")).status, 200);
}

#[test]
fn tokens_are_paid_for_whole_streamed_or_hung_up_on() {
    let server = guarded();
    let limits = Limits { tokens_per_minute: Some(40), ..Limits::default() };
    let refused = |key| server.post_as(key, CHAT, &chat("hi")).status == 429;
    let long = with(chat("hi"), json!({"max_tokens": 64, "ignore_eos": true, "min_tokens": 64}));
    for body in [long.clone(), with(long.clone(), json!({"stream": true}))] {
        let key = server.limited(limits);
        assert_eq!(server.post_as(&key, CHAT, &body).status, 200);
        let reply = server.post_as(&key, CHAT, &chat("hi"));
        assert_eq!(reason(&reply), (429, json!("rate_limit_exceeded")));
        assert!(reply.text.contains("tokens a minute"), "{}", reply.text);
    }
    // Texts without a conversation, too.
    let key = server.limited(limits);
    let text = json!({"model": "mock", "prompt": "x", "max_tokens": 64, "ignore_eos": true});
    assert_eq!(server.post_as(&key, "/v1/completions", &text).status, 200);
    assert!(refused(&key));
    // Who hangs up pays for what was said and asked.
    let slow = MockConfig { step: Duration::from_millis(5), ..MockConfig::default() };
    let server =
        guarded_on(HERE.parse().unwrap(), Settings { config: slow, ..Settings::default() });
    let key = server.limited(limits);
    let body = with(chat(&"x".repeat(400)), json!({"max_tokens": 2000, "ignore_eos": true}));
    drop(begin(&server, &key.expose(), &with(body, json!({"stream": true}))));
    let begun = std::time::Instant::now();
    while server.post_as(&key, CHAT, &chat("hi")).status != 429 {
        assert!(begun.elapsed().as_secs() < 10, "hanging up was free");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_completion_is_as_long_as_the_key_may_have() {
    let server = guarded();
    let key = server.limited(Limits { max_tokens: Some(8), ..Limits::default() });
    let said = "a long story that goes on and on";
    for body in [chat(said), with(chat(said), json!({"stream": true}))] {
        let reply = server.post_as(&key, CHAT, &body);
        assert_eq!(reply.status, 200, "{}", reply.text);
        assert!(reply.text.contains("\"length\""), "{}", reply.text);
    }
    let text = json!({"model": "mock", "prompt": said, "max_tokens": 9});
    for (path, body) in
        [(CHAT, with(chat(said), json!({"max_tokens": 9}))), ("/v1/completions", text)]
    {
        let reply = server.post_as(&key, path, &body);
        assert_eq!((reply.status, &reply.json()["error"]["param"]), (400, &json!("max_tokens")));
    }
    let tokens = |count: u32| json!({"token_ids": [120], "sampling_params": {"max_tokens": count}});
    assert_eq!(server.post_as(&key, "/inference/v1/generate", &tokens(9)).status, 400);
    assert_eq!(server.post_as(&key, "/inference/v1/generate", &tokens(8)).status, 200);
}

#[test]
fn as_many_at_once_as_the_key_may_have() {
    let slow = MockConfig { step: Duration::from_millis(5), ..MockConfig::default() };
    let server =
        guarded_on(HERE.parse().unwrap(), Settings { config: slow, ..Settings::default() });
    let key = server.limited(Limits { concurrent: Some(2), ..Limits::default() });
    let body = with(chat("hi"), json!({"max_tokens": 2000, "ignore_eos": true, "stream": true}));
    let mut running: Vec<_> = (0..2).map(|_| begin(&server, &key.expose(), &body)).collect();
    let refused = server.post_as(&key, CHAT, &chat("hi"));
    assert_eq!(refused.status, 429);
    assert!(refused.text.contains("requests at once"), "{}", refused.text);
    // The place of a stream that nobody reads any more is free.
    running.pop();
    let begun = std::time::Instant::now();
    while server.post_as(&key, CHAT, &with(chat("hi"), json!({"max_tokens": 1}))).status != 200 {
        assert!(begun.elapsed().as_secs() < 10, "a place was never given back");
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Guarded {
    fn told_outcomes(&self) -> usize {
        self.journal.counts().unwrap().outcomes as usize
    }
}

/// A stream that has begun.
fn begin(server: &Guarded, key: &str, body: &Value) -> std::net::TcpStream {
    use std::io::{Read as _, Write as _};
    let text = body.to_string();
    let mut socket = std::net::TcpStream::connect(server.address).unwrap();
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\n\
         content-length: {}\r\n\r\n{text}",
        text.len()
    );
    socket.write_all(head.as_bytes()).unwrap();
    let mut first = [0; 64];
    let size = socket.read(&mut first).unwrap();
    assert!(first[..size].starts_with(b"HTTP/1.1 200"), "{:?}", &first[..size]);
    socket
}

#[test]
fn nobody_floods_a_release_with_verdicts() {
    let server = guarded();
    server.route("triage", understudy_router::Target::Base);
    let limits = Limits { feedback_per_minute: Some(100), ..Limits::default() };
    let key = server.limited(limits);
    let said = |key, about: &str, count: usize| {
        let events: Vec<Value> =
            (0..count).map(|_| json!({"session_id": about, "signal": "accept"})).collect();
        server.post_as(key, "/v1/feedback", &json!(events))
    };
    // One user's verdicts are one user's, however many sessions they are about.
    let user = |session: &str| {
        let more = json!({"model": "triage", "user": "mallory", "session_id": session});
        assert_eq!(server.post_as(&key, CHAT, &with(chat("hi"), more)).status, 200);
    };
    user("s1");
    user("s2");
    assert_eq!(said(&key, "s1", 40).status, 202);
    let before = server.journal.counts().unwrap().outcomes;
    let flood = said(&key, "s2", 45);
    assert_eq!(reason(&flood), (429, json!("subject_rate_limit_exceeded")));
    assert_eq!(server.journal.counts().unwrap().outcomes, before, "none of it was stored");
    // A program says something about every step, and has the key's limit.
    let verified = json!({"session_id": "s2", "signal": "verifier", "name": "tests", "value": 1,
        "source": "automated"});
    assert_eq!(server.post_as(&key, "/v1/feedback", &verified).status, 202);
    // Nor does another key help.
    let second = server.limited(limits);
    assert_eq!(said(&second, "s2", 45).status, 429);
    // And a key has a limit of its own.
    assert_eq!(said(&second, "elsewhere", 50).status, 202);
    assert_eq!(reason(&said(&second, "nowhere", 50)), (429, json!("rate_limit_exceeded")));
}

#[test]
fn a_token_is_not_a_megaphone() {
    let server = guarded();
    server.route("triage", understudy_router::Target::Base);
    let key = server.key(&[Scope::Infer]);
    let reply = server.post_as(&key, CHAT, &with(chat("hi"), json!({"model": "triage"})));
    let token = reply.header("x-feedback-token").unwrap().to_owned();
    let event = json!({"response_id": reply.json()["id"], "signal": "accept"});
    let say = || {
        let headers = [("x-feedback-token", token.as_str())];
        server.post_with("/v1/feedback/signed", &event, &headers).status
    };
    let taken = (0..200).take_while(|_| say() == 202).count();
    assert!((60..=63).contains(&taken), "{taken}");
    assert_eq!(server.told_outcomes(), taken);
}

#[test]
fn bodies_are_limited_by_what_a_route_needs() {
    let server = guarded();
    let key = server.key(&[Scope::Admin]);
    let long = json!({"lora_name": "a", "lora_path": "x".repeat(100 << 10)});
    assert_eq!(server.post_as(&key, "/v1/load_lora_adapter", &long).status, 413);
    assert_eq!(server.post_as(&key, "/ping", &json!("x".repeat(8 << 10))).status, 413);
    let chat = chat(&"x".repeat(5 << 20));
    assert_eq!(server.post_as(&key, CHAT, &chat).status, 413);
}

#[test]
fn a_bomb_is_measured_unpacked() {
    let limits = understudy_intake::Limits { body_bytes: 1 << 20, waiting_bytes: 8 << 20 };
    let server = guarded_on(HERE.parse().unwrap(), Settings { limits, ..Settings::default() });
    let key = format!("Bearer {}", server.key(&[Scope::Telemetry]).expose());
    let zeros = vec![b' '; 64 << 20];
    let zstd = zstd::encode_all(&zeros[..], 3).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut gzip, &zeros).unwrap();
    for (name, bomb) in [("zstd", zstd), ("gzip", gzip.finish().unwrap())] {
        assert!(bomb.len() < 100 << 10);
        let request = server.agent.post(server.url("/v1/traces"));
        let request = request.header("authorization", &key).header("content-encoding", name);
        let request = request.header("content-type", "application/json");
        let reply = crate::tests::read(request.send(&bomb[..]).unwrap());
        assert_eq!(reply.status, 413, "{name}: {}", reply.text);
    }
}
