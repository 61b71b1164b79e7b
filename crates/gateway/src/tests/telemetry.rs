//! Telemetry over a socket: every path, encoding and compression, and what is refused and how.

use std::{
    io::Write as _,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use understudy_inference::MockConfig;
use understudy_intake::Limits;

use super::{Reply, Server, Settings, read, start, start_and, start_limited};

/// A span of one call, with this reply.
pub(super) fn export(trace: u32, reply: &str) -> Value {
    let message = |role: &str, text: &str| json!([{"role": role, "parts": [{"type": "text", "content": text}]}]);
    let attribute = |key: &str, value: Value| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        json!({"key": key, "value": {"stringValue": text}})
    };
    let span = json!({
        "traceId": format!("{trace:032x}"), "spanId": format!("{trace:016x}"), "name": "chat",
        "startTimeUnixNano": "1000", "endTimeUnixNano": "2000", "attributes": [
            attribute("gen_ai.operation.name", json!("chat")),
            attribute("gen_ai.input.messages", message("user", "q")),
            attribute("gen_ai.output.messages", message("assistant", reply)),
        ],
    });
    json!({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]})
}

/// A protobuf message's length-delimited field.
fn field(number: u32, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::encode_key(number, prost::encoding::WireType::LengthDelimited, &mut bytes);
    prost::encoding::encode_varint(content.len() as u64, &mut bytes);
    bytes.extend_from_slice(content);
    bytes
}

/// The same in protobuf: ids, name and string attributes.
pub(super) fn protobuf(export: &Value) -> Vec<u8> {
    let span = &export["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
    let hex = |name: &str| -> Vec<u8> {
        let text = span[name].as_str().unwrap();
        (0..text.len() / 2)
            .map(|n| u8::from_str_radix(&text[2 * n..2 * n + 2], 16).unwrap())
            .collect()
    };
    let mut bytes = [field(1, &hex("traceId")), field(2, &hex("spanId"))].concat();
    for attribute in span["attributes"].as_array().unwrap() {
        let value = field(1, attribute["value"]["stringValue"].as_str().unwrap().as_bytes());
        let pair = [field(1, attribute["key"].as_str().unwrap().as_bytes()), field(2, &value)];
        bytes.extend(field(9, &pair.concat()));
    }
    field(1, &field(2, &field(2, &bytes)))
}

impl Server {
    pub(super) fn bytes(&self, path: &str, kind: &str, encoding: &str, body: &[u8]) -> Reply {
        let request = self.agent.post(self.url(path)).header("content-type", kind);
        let request = request.header("content-encoding", encoding);
        read(request.send(body).unwrap())
    }

    fn replies(&self) -> Vec<String> {
        let mut replies: Vec<String> =
            self.steps().iter().map(|step| step.reply.text().clone()).collect();
        replies.sort();
        replies
    }

    /// Waits for the reader.
    pub(super) fn shows(&self, wanted: &[&str]) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.replies() != wanted {
            assert!(Instant::now() < deadline, "only {:?}", self.replies());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

const JSON: &str = "application/json";
const PROTOBUF: &str = "application/x-protobuf";

pub(super) fn gzip(body: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(body).unwrap();
    packer.finish().unwrap()
}

#[test]
fn spans_become_steps_in_either_encoding_and_any_packing() {
    let server = start();
    let text = |n: u32, reply: &str| export(n, reply).to_string().into_bytes();
    let sent = [
        ("/v1/traces", JSON, "identity", text(1, "a")),
        ("/v1/traces", JSON, "gzip", gzip(&text(2, "b"))),
        ("/v1/traces", JSON, "zstd", zstd::encode_all(&text(3, "c")[..], 1).unwrap()),
        ("/v1/traces", PROTOBUF, "identity", protobuf(&export(4, "d"))),
        ("/v1/traces", PROTOBUF, "gzip", gzip(&protobuf(&export(5, "e")))),
        ("/api/public/otel/v1/traces", PROTOBUF, "identity", protobuf(&export(6, "f"))),
        ("/v1/traces", PROTOBUF, "identity", protobuf(&export(4, "d"))),
    ];
    for (path, kind, encoding, body) in &sent {
        let reply = server.bytes(path, kind, encoding, body);
        assert_eq!(
            (reply.status, reply.header("content-type")),
            (200, Some(*kind)),
            "{}",
            reply.text
        );
        assert_eq!(reply.text, if *kind == JSON { "{}" } else { "" });
    }
    assert_eq!(server.journal.counts().unwrap().bodies, 6, "one was sent twice");
    server.shows(&["a", "b", "c", "d", "e", "f"]);
    assert!(server.steps().iter().all(|step| step.task.as_str() == "telemetry"));
}

#[test]
fn a_broken_span_is_told_as_partial_success() {
    let server = start();
    let mut body = export(1, "a");
    let spans = body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array_mut().unwrap();
    spans.push(json!({"traceId": "zz", "spanId": "1"}));
    let reply = server.post_with("/v1/traces", &body, &[("x-understudy-task", "triage")]);
    assert_eq!(
        (reply.status, &reply.json()["partialSuccess"]["rejectedSpans"]),
        (200, &json!("1"))
    );
    server.shows(&["a"]);
    assert_eq!(server.steps()[0].task.as_str(), "triage");

    // Another signal's body decodes as spans without ids.
    let log = field(1, &field(2, &field(2, &field(5, &field(1, b"words")))));
    let reply = server.bytes("/v1/traces", PROTOBUF, "identity", &log);
    assert_eq!(reply.status, 200);
    assert!(reply.text.contains("trace id"), "{:?}", reply.text);
    let reply = server.bytes("/v1/logs", PROTOBUF, "identity", &log);
    assert_eq!((reply.status, reply.text.as_str()), (200, ""));
    assert_eq!(server.post("/v1/traces", &json!({})).text, "{}", "an empty request succeeds");
}

#[test]
fn what_cannot_be_read_is_refused_in_the_words_of_its_protocol() {
    let server = start();
    let refused = [
        ("/v1/traces", JSON, "identity", b"[".to_vec(), 400),
        ("/v1/traces", PROTOBUF, "identity", b"\xff\xff".to_vec(), 400),
        ("/v1/traces", JSON, "gzip", b"plain".to_vec(), 400),
        ("/v1/traces", JSON, "br", b"{}".to_vec(), 415),
        ("/v1/traces", "text/plain", "identity", b"{}".to_vec(), 415),
        ("/runs/multipart", JSON, "identity", b"{}".to_vec(), 415),
        ("/runs/batch", JSON, "identity", b"no".to_vec(), 400),
        ("/api/public/scores", JSON, "identity", br#"{"name": "x", "value": 1}"#.to_vec(), 400),
    ];
    for (path, kind, encoding, body, status) in refused {
        let reply = server.bytes(path, kind, encoding, &body);
        assert_eq!(reply.status, status, "{path} {kind} {encoding}: {}", reply.text);
        assert!(reply.header("retry-after").is_none(), "sending it again would not help");
        if path == "/v1/traces" && kind == JSON {
            assert_eq!(reply.json()["code"], 3, "{}", reply.text);
        }
    }
    let named = [("x-understudy-task", "No Task")];
    assert_eq!(server.post_with("/v1/traces", &export(1, "a"), &named).status, 400);
    assert_eq!(server.steps(), []);
}

#[test]
fn no_room_is_said_with_a_time_to_come_back_and_a_limit_holds_after_unpacking() {
    let limits = Limits { body_bytes: 100_000, waiting_bytes: 120_000 };
    let server = start_limited(MockConfig::default(), true, limits);
    let large = vec![b' '; 100_001];
    assert_eq!(server.bytes("/v1/traces", JSON, "identity", &large).status, 413);
    assert_eq!(server.bytes("/v1/traces", JSON, "gzip", &gzip(&large)).status, 413);

    // One that is on its way and does not come takes the room, if it is the first to ask for it.
    let head = "POST /v1/traces HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                content-length: 100000\r\n\r\n{";
    let deadline = Instant::now() + Duration::from_secs(10);
    let body = vec![b' '; 90_000];
    let (slow, refused) = loop {
        let mut slow = std::net::TcpStream::connect(server.address).unwrap();
        slow.write_all(head.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        let reply = server.bytes("/v1/traces", JSON, "identity", &body);
        if reply.status == 429 {
            break (slow, reply);
        }
        assert!(Instant::now() < deadline, "{}: {}", reply.status, reply.text);
    };
    assert_eq!((refused.header("retry-after"), &refused.json()["code"]), (Some("1"), &json!(8)));
    drop(slow);
    let deadline = Instant::now() + Duration::from_secs(10);
    while server.bytes("/v1/traces", JSON, "identity", &body).status == 429 {
        assert!(Instant::now() < deadline, "the room never came back");
    }
}

#[test]
fn a_full_disk_is_said_and_nothing_is_acknowledged() {
    let server = super::start_small(400_000);
    let noise = |n: u32| {
        (0..40_000).map(|m| char::from(b'!' + (m * n % 8_971 % 89) as u8)).collect::<String>()
    };
    let mut taken = 0;
    let full = loop {
        let reply = server.post("/v1/traces", &export(taken + 1, &noise(taken * 79 + 31)));
        if reply.status != 200 {
            break reply;
        }
        taken += 1;
        assert!(taken < 1000, "the limit does not hold");
    };
    assert_eq!((full.status, full.header("retry-after")), (503, Some("30")), "{}", full.text);
    assert_eq!(full.header("retry-after-ms"), Some("30000"));
    assert_eq!(full.json()["code"], 14);
    assert_eq!(server.journal.counts().unwrap().bodies, u64::from(taken));
}

#[test]
fn langsmith_s_client_finds_what_it_asks_for() {
    let server = start();
    let info = server.get("/info").json();
    assert_eq!(info["batch_ingest_config"]["use_multipart_endpoint"], true);
    assert_eq!(info["instance_flags"]["zstd_compression_enabled"], true);
    let run = json!({
        "id": "0198c0de-0000-7000-8000-000000000001", "trace_id": "0198c0de-0000-7000-8000-000000000001",
        "dotted_order": "20260101T000000000000Z0198c0de-0000-7000-8000-000000000001",
        "name": "chat", "run_type": "llm", "start_time": "2026-01-01T00:00:00Z",
        "inputs": {"messages": [{"role": "user", "content": "q"}]},
    });
    let outputs = json!({"choices": [{"message": {"role": "assistant", "content": "multi"}}]});
    let id = run["id"].as_str().unwrap();
    let part = |name: String, value: &Value| {
        format!(
            "--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\nContent-Type: application/json\r\n\r\n{value}\r\n"
        )
    };
    let body = [
        part(format!("post.{id}"), &run),
        part(format!("post.{id}.outputs"), &outputs),
        "--b--\r\n".to_owned(),
    ];
    let body = body.concat();
    let packed = zstd::encode_all(body.as_bytes(), 1).unwrap();
    let reply = server.bytes("/runs/multipart", "multipart/form-data; boundary=b", "zstd", &packed);
    assert_eq!(reply.status, 202, "{}", reply.text);
    server.shows(&["multi"]);

    let mut other = run.clone();
    for name in ["id", "trace_id"] {
        other[name] = json!("0198c0de-0000-7000-8000-000000000002");
    }
    other["inputs"]["messages"][0]["content"] = json!("another");
    other["outputs"] = json!({"choices": [{"message": {"role": "assistant", "content": "batch"}}]});
    assert_eq!(server.post("/runs/batch", &json!({"post": [other], "patch": []})).status, 202);
    server.shows(&["batch", "multi"]);

    let feedback = json!({"run_id": id, "key": "liked", "score": 1, "id": "f1"});
    assert_eq!(server.post("/feedback", &feedback).json()["id"], "f1");
    until_judged(&server, "multi");
}

#[test]
fn a_score_of_langfuse_waits_for_its_trace() {
    let server = start();
    let score = json!({"id": "s1", "traceId": format!("{:032x}", 9), "name": "liked", "value": 1});
    let reply = server.post("/api/public/scores", &score);
    assert_eq!((reply.status, &reply.json()["id"]), (200, &json!("s1")));
    assert_eq!(server.post("/v1/traces", &export(9, "late")).status, 200);
    until_judged(&server, "late");
}

/// Something is said about the step with this reply.
fn until_judged(server: &Server, reply: &str) {
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        let trajectories = server.journal.trajectories(&super::Query::default()).unwrap();
        let mut steps = trajectories.iter().flat_map(|trajectory| &trajectory.steps);
        if steps.any(|judged| judged.step.reply.text() == reply && !judged.outcomes.is_empty()) {
            return;
        }
        assert!(Instant::now() < deadline, "{reply} was never judged");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn calls_without_content_are_counted_once_and_the_reader_s_lag_is_told() {
    let server = start();
    let mut silent = export(1, "unheard");
    let span = &mut silent["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
    let all = span["attributes"].as_array_mut().unwrap();
    all.truncate(1);
    all.push(json!({"key": "gen_ai.request.model", "value": {"stringValue": "m"}}));
    let metric = |line: &str| server.get("/metrics").text.lines().any(|known| known == line);
    let counted = || metric("understudy:telemetry_calls_left_out_total{reason=\"no_content\"} 1");
    assert!(!counted());
    assert_eq!(server.post("/v1/traces", &silent).status, 200);
    let deadline = Instant::now() + Duration::from_secs(20);
    while !counted() {
        assert!(Instant::now() < deadline, "{}", server.get("/metrics").text);
        std::thread::sleep(Duration::from_millis(20));
    }
    // More of the same trace has all of it read again.
    let mut more = export(1, "heard");
    more["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["spanId"] = json!("00000000000000ff");
    assert_eq!(server.post("/v1/traces", &more).status, 200);
    server.shows(&["heard"]);
    assert!(counted());
    while !metric("understudy:telemetry_unread_bodies 0") {
        assert!(Instant::now() < deadline, "{}", server.get("/metrics").text);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(metric("understudy:telemetry_lag_seconds 0"));
}

#[test]
fn old_bodies_are_forgotten_which_makes_room_on_a_full_disk() {
    let small = understudy_journal::Config { max_bytes: Some(2 << 20), ..Default::default() };
    let settings = Settings { journal: small, ..Settings::default() };
    let keep = |gateway: &crate::Gateway| gateway.keep_raw_for(Duration::from_secs(4));
    let server = start_and(settings, |gateway, _, _| keep(gateway));
    // A text that does not pack.
    let noise = |n: u32| -> String {
        let digest =
            |part: u32| understudy_ident::Digest::of(format!("{n} {part}").as_bytes()).to_hex();
        (0..6_000).map(digest).collect()
    };
    // Beside the call, so that its step is small.
    let large = |n: u32| {
        let mut body = export(n + 1, "kept");
        let noise = json!({"key": "noise", "value": {"stringValue": noise(n)}});
        let span = &mut body["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
        span["attributes"].as_array_mut().unwrap().push(noise);
        server.post("/v1/traces", &body)
    };
    let mut taken = 0;
    let refused = loop {
        let reply = large(taken);
        if reply.status != 200 {
            break reply;
        }
        taken += 1;
        assert!(taken < 100, "the limit does not hold");
    };
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert!(taken > 3);
    let deadline = Instant::now() + Duration::from_secs(30);
    while large(taken).status != 200 {
        assert!(Instant::now() < deadline, "no room was made");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(server.journal.counts().unwrap().expired_bodies > 0, "nothing else makes room");
    server.shows(&vec!["kept"; taken as usize + 1]);
}
