//! Too many requests, too little time, and clients that go away or read slowly.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use understudy_inference::{FakeBackend, InferenceError, MockConfig, Student};

use super::{CHAT, Server, Settings, chat, start, start_as, start_with, with};
use crate::Patience;

fn slow(step_ms: u64) -> MockConfig {
    let step = Duration::from_millis(step_ms);
    MockConfig { running: 1, waiting: 1, step, ..MockConfig::default() }
}

/// Sends a request and leaves the answer unread.
fn send(server: &Server, body: &Value) -> TcpStream {
    let mut socket = TcpStream::connect(server.address).unwrap();
    let body = body.to_string();
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes()).unwrap();
    socket.write_all(body.as_bytes()).unwrap();
    socket
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !done() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_full_queue_turns_requests_away_until_there_is_room() {
    let server = start_with(slow(20), true);
    let long = with(chat(&"x".repeat(300)), json!({"stream": true}));
    let one = send(&server, &long);
    until("the first runs", || server.student.stats().running == 1);
    let two = send(&server, &long);
    until("the second waits", || server.student.stats().waiting == 1);
    let reply = server.post(CHAT, &chat("hi"));
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")));
    assert_eq!(reply.json()["error"]["reason"], "max_num_queued_reqs");
    let both = server.post(CHAT, &with(chat("hi"), json!({"n": 2})));
    assert_eq!(both.status, 503, "all or none");
    drop((one, two));
    until("there is room", || server.post(CHAT, &chat("hi")).status == 200);
}

#[test]
fn a_client_that_goes_away_frees_what_it_asked_for_and_is_recorded() {
    let server = start_with(slow(10), true);
    for stream in [true, false] {
        let before = server.student.stats().cancelled;
        let body = with(chat(&"x".repeat(1000)), json!({ "stream": stream }));
        let socket = send(&server, &body);
        until("it runs", || server.student.stats().running == 1);
        drop(socket);
        until("it is cancelled", || server.student.stats().cancelled == before + 1);
    }
    until("both are recorded", || server.steps().len() == 2);
    for step in server.steps() {
        assert_eq!(step.error.as_deref(), Some("the client went away"));
        assert!(step.assignment.unwrap().course.left, "which is no error of the model's");
        assert!(step.timing.total_ms > 0.0, "how long it was waited for is known");
    }
}

#[test]
fn a_deadline_ends_a_reply_or_refuses_it() {
    let server = start_with(slow(10), true);
    let deadline =
        |ms: &str, text: &str| server.post_with(CHAT, &chat(text), &[("x-request-timeout-ms", ms)]);
    let cut = deadline("150", &"x".repeat(500)).json();
    assert_eq!(cut["choices"][0]["stop_reason"], "deadline", "{cut}");
    assert_eq!(cut["choices"][0]["finish_reason"], "length");
    let long = send(&server, &chat(&"x".repeat(500)));
    until("it runs", || server.student.stats().running == 1);
    let late = deadline("30", "hi");
    assert_eq!((late.status, &late.json()["error"]["reason"]), (504, &json!("deadline_exceeded")));
    drop(long);
    for wrong in ["soon", "0", "-1"] {
        assert_eq!(deadline(wrong, "hi").status, 400, "{wrong}");
    }
    let unreadable = http::HeaderValue::from_bytes(b"b\xf6se").unwrap();
    let request = server.agent.post(server.url(CHAT)).header("x-request-timeout-ms", unreadable);
    assert_eq!(request.send_json(chat("hi")).unwrap().status().as_u16(), 400);
    assert_eq!(deadline("5000", "hi").status, 200);
}

#[test]
fn what_tokenizing_takes_is_taken_from_the_deadline() {
    let config = MockConfig { tokenizing: Duration::from_millis(300), ..slow(10) };
    let server = start_with(config, true);
    let prompt = json!({"model": "mock", "prompt": "hi"});
    let mut cut = chat("hi");
    cut["truncate_prompt_tokens"] = json!(4);
    for (path, body) in [("/v1/completions", &prompt), (CHAT, &cut)] {
        let late = server.post_with(path, body, &[("x-request-timeout-ms", "200")]);
        assert_eq!(late.status, 504, "{path}: {}", late.text);
        let soon = server.post_with(path, body, &[("x-request-timeout-ms", "60000")]);
        assert_eq!(soon.status, 200, "{path}: {}", soon.text);
    }
}

#[test]
fn no_request_gets_more_time_than_the_server_allows() {
    let longest_deadline = Duration::from_millis(150);
    let patience = Patience { longest_deadline, ..Patience::default() };
    let server = start_as(Settings { config: slow(10), patience, ..Settings::default() });
    let within = |ms: &str| {
        let long = chat(&"x".repeat(60));
        server.post_with(CHAT, &long, &[("x-request-timeout-ms", ms)])
    };
    let greedy = within("86400000");
    assert_eq!(greedy.json()["choices"][0]["stop_reason"], "deadline", "{}", greedy.text);
    assert_eq!(greedy.header("x-request-timeout-ms"), Some("150"), "it is told what it got");
    let modest = within("100");
    assert_eq!(modest.json()["choices"][0]["stop_reason"], "deadline", "{}", modest.text);
    assert_eq!(modest.header("x-request-timeout-ms"), None, "it got what it asked for");
    // Who asks for no deadline has none.
    let patient = server.post(CHAT, &chat(&"x".repeat(60))).json();
    assert_eq!(patient["choices"][0]["finish_reason"], "stop", "{patient}");
}

#[test]
fn a_stream_that_waits_is_refused_by_status_while_it_can_be_and_held_open_from_then_on() {
    let patience = Patience { silence: Duration::from_millis(150), ..Patience::default() };
    let server = start_as(Settings { config: slow(10), patience, ..Settings::default() });
    let stream = with(chat("hi"), json!({"stream": true}));
    let within = |ms: &str| server.post_with(CHAT, &stream, &[("x-request-timeout-ms", ms)]);
    let long = send(&server, &chat(&"x".repeat(3000)));
    until("it runs", || server.student.stats().running == 1);
    let early = within("40");
    assert_eq!((early.status, early.header("content-type")), (504, Some("application/json")));
    let waiting = send(&server, &stream);
    until("the queue is full", || server.student.stats().waiting == 1);
    let full = server.post(CHAT, &stream);
    assert_eq!((full.status, full.header("retry-after")), (503, Some("1")), "{}", full.text);
    drop(waiting);
    until("there is room", || server.student.stats().waiting == 0);

    let late = within("600");
    assert_eq!((late.status, late.header("content-type")), (200, Some("text/event-stream")));
    assert_eq!(late.header("x-understudy-arm"), Some("base"));
    assert!(late.text.starts_with(": keep-alive\n\n: keep-alive\n\n"), "{}", late.text);
    let events = late.broken_events();
    assert_eq!((events.len(), &events[0]["error"]["code"]), (1, &json!(504)), "{}", late.text);

    let answered = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| server.post(CHAT, &stream));
        std::thread::sleep(Duration::from_millis(400));
        drop(long);
        waiting.join().unwrap()
    });
    assert!(answered.text.starts_with(": keep-alive\n\n"), "{}", answered.text);
    let events = answered.events();
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    let id = events[0]["id"].as_str().unwrap();
    assert!(server.steps().iter().any(|step| step.response_id == id && step.error.is_none()));
}

#[test]
fn a_slow_reader_gets_everything_and_holds_up_nobody() {
    let server = start_with(MockConfig { context: 8192, ..MockConfig::default() }, true);
    let text: String = (0..3000).map(|n| char::from(b'a' + (n % 26) as u8)).collect();
    // With so much beside each letter the reply is larger than what sockets hold.
    let more = json!({"stream": true, "logprobs": true, "top_logprobs": 20});
    let body = with(chat(&text), more);
    let mut socket = send(&server, &body);
    until("it is generated though nobody reads", || server.student.stats().finished == 1);
    until("it is durable though nobody reads", || server.steps().len() == 1);
    assert_eq!(server.post(CHAT, &chat("hi")).status, 200);
    let (mut said, mut buffer) = (Vec::new(), [0; 4096]);
    while !said.ends_with(b"0\r\n\r\n") {
        let count = socket.read(&mut buffer).unwrap();
        assert!(count > 0, "the stream ends before its end");
        said.extend(&buffer[..count]);
    }
    let said = dechunked(&String::from_utf8(said).unwrap());
    let events = said.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
    let chunks: Vec<Value> = events.filter_map(|event| serde_json::from_str(event).ok()).collect();
    assert!(chunks.len() < 3000, "what nobody read was joined");
    let scores =
        |chunk: &Value| chunk["choices"][0]["logprobs"]["content"].as_array().map(Vec::len);
    assert_eq!(chunks.iter().filter_map(scores).sum::<usize>(), 3001);
    let joined: String = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(joined, text);
}

/// The body of a response in HTTP's chunked coding.
fn dechunked(response: &str) -> String {
    let (_, mut rest) = response.split_once("\r\n\r\n").unwrap();
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        body += &after[..size];
        rest = &after[size + 2..];
    }
    body
}

#[test]
fn an_error_after_the_first_byte_is_an_event_and_a_step() {
    let server = start();
    // After the first letter nothing is allowed: the mock fails in the middle of its reply.
    let more = json!({"stream": true, "allowed_token_ids": [97], "bad_words": ["aa"]});
    let events = server.post(CHAT, &with(chat("aa"), more)).broken_events();
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    let last = events.last().unwrap();
    assert!(last["error"]["message"].as_str().unwrap().contains("nothing may come"), "{last}");
    let step = &server.steps()[0];
    assert_eq!(last["error"]["request_id"], json!(step.response_id), "the record can be found");
    assert!(server.steps()[0].error.is_some());
}

#[test]
fn lower_priorities_come_first() {
    let config = MockConfig { waiting: 8, ..slow(5) };
    let server = start_with(config, true);
    let first = send(&server, &chat(&"x".repeat(60)));
    until("it runs", || server.student.stats().running == 1);
    let late = send(&server, &with(chat("late"), json!({"priority": 5})));
    until("one waits", || server.student.stats().waiting == 1);
    let early = send(&server, &with(chat("early"), json!({"priority": -5})));
    until("all are recorded", || server.steps().len() == 3);
    let mut steps = server.steps();
    steps.sort_by(|a, b| a.timing.queued_ms.total_cmp(&b.timing.queued_ms));
    let order: Vec<String> = steps.iter().map(|step| step.reply.text()).collect();
    assert_eq!(order[1..], ["early", "late"]);
    drop((first, late, early));
}

#[test]
fn metrics_say_who_waits_for_which_adapter() {
    let server = start_with(MockConfig { waiting: 4, ..slow(20) }, true);
    server.load("a", "one");
    server.load("b", "two");
    let of = |adapter: &str| with(chat(&"x".repeat(300)), json!({ "adapter": adapter }));
    let first = send(&server, &of("a"));
    until("the first runs", || server.student.stats().running == 1);
    let others = ["b", "b", "a"].map(|adapter| send(&server, &of(adapter)));
    until("the others wait", || server.student.stats().waiting == 3);
    for (adapter, waiting, running) in [("a", 1.0, 1.0), ("b", 2.0, 0.0)] {
        let label = format!("adapter=\"{adapter}\"");
        assert_eq!(server.metric("understudy:adapter_requests_waiting", &label), waiting);
        assert_eq!(server.metric("understudy:adapter_requests_running", &label), running);
    }
    let names = "waiting_lora_adapters=\"a,b\",running_lora_adapters=\"a\"";
    assert_eq!(server.metric("vllm:lora_requests_info", names), 1.0);
    drop((first, others));
    until("nobody is left", || server.student.in_line() == Some(Vec::new()));
}

/// As an adapter that has to be read from a slow disk makes it.
#[test]
fn requests_that_take_long_to_take_up_hold_up_nobody() {
    let slow = FakeBackend::new("mock", |_, _| {
        std::thread::sleep(Duration::from_secs(2));
        Ok("late".to_owned())
    });
    let server = start_as(Settings { student: Some(Arc::new(slow)), ..Settings::default() });
    // More of them than the server has threads.
    let waiting: Vec<TcpStream> = (0..20).map(|_| send(&server, &chat("hi"))).collect();
    std::thread::sleep(Duration::from_millis(200));
    let asked = Instant::now();
    assert_eq!(server.get("/health").status, 200);
    assert!(asked.elapsed() < Duration::from_secs(1), "it waited {:?}", asked.elapsed());
    drop(waiting);
}

#[test]
fn who_leaves_a_paused_server_leaves_nothing_behind() {
    let server = start_with(slow(10), true);
    let socket = send(&server, &chat(&"x".repeat(300)));
    until("it runs", || server.student.stats().running == 1);
    server.student.pause();
    drop(socket);
    until("it is gone", || server.student.stats().running == 0);
    assert!(server.student.is_paused());
    assert_eq!(server.student.stats().cancelled, 1);
}

#[test]
fn an_adapter_that_cannot_be_read_is_the_servers_fault_and_named_as_the_model() {
    let student = FakeBackend::new("mock", |_, _| {
        Err(InferenceError::BadAdapter { alias: "a".to_owned(), why: "half a file".to_owned() })
    });
    let server = start_as(Settings { student: Some(Arc::new(student)), ..Settings::default() });
    let reply = server.post(CHAT, &chat("hi"));
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")), "{}", reply.text);
    let error = reply.json()["error"].clone();
    assert_eq!(error["param"], "model");
    assert_eq!(error["reason"], "lora_adapter_invalid");
}
