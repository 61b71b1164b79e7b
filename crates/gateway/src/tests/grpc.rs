//! OTLP over gRPC, by a client of HTTP/2 that knows nothing of the server.

use h2::client;
use http::{HeaderMap, Request};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use understudy_access::{Key, Scope};
use understudy_inference::MockConfig;
use understudy_intake::Limits;

use super::{
    Server, start, start_limited, start_small,
    telemetry::{export, gzip, protobuf},
};

const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const LOGS: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

type Headers = &'static [(&'static str, &'static str)];

/// What came back: the message, and headers and trailers together.
struct Answer {
    message: Vec<u8>,
    headers: HeaderMap,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The status, and the seconds of its `RetryInfo`.
    fn status(&self) -> (u32, Option<u8>) {
        use base64::Engine as _;
        let details = self.header("grpc-status-details-bin");
        let details = base64::engine::general_purpose::STANDARD_NO_PAD.decode(details).unwrap();
        let name = b"google.rpc.RetryInfo";
        let at = details.windows(name.len()).position(|part| part == name);
        // Behind the name: field 2 and its length, field 1 and its length, field 1 and the seconds.
        let seconds = at.map(|at| details[at + name.len() + 5]);
        (self.header("grpc-status").parse().unwrap(), seconds)
    }
}

fn frame(message: &[u8], packed: bool) -> Vec<u8> {
    let length = (message.len() as u32).to_be_bytes();
    [&[u8::from(packed)][..], &length, message].concat()
}

fn call(server: &Server, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
    let (status, answer) = ask(server, path, headers, body);
    assert_eq!(status, 200);
    answer
}

/// With the status of HTTP.
fn ask(server: &Server, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> (u16, Answer) {
    let gateway = server.gateway.clone();
    server.runtime().block_on(async move {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(crate::serve_grpc(listener, gateway, std::future::pending()));
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut client, connection) = client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::post(format!("http://{address}{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (response, mut sending) =
            client.send_request(request.body(()).unwrap(), false).unwrap();
        // What is refused early is not read to its end, or not at all.
        sending.send_data(body.into(), true).ok();
        let (head, mut body) = response.await.unwrap().into_parts();
        let status = head.status.as_u16();
        let mut bytes = Vec::new();
        while let Some(part) = body.data().await {
            let part = part.unwrap();
            body.flow_control().release_capacity(part.len()).unwrap();
            bytes.extend_from_slice(&part);
        }
        let mut headers = head.headers;
        headers.extend(body.trailers().await.unwrap().unwrap_or_default());
        let message = bytes.get(5..).unwrap_or_default().to_vec();
        (status, Answer { message, headers })
    })
}

#[test]
fn spans_become_steps_plain_and_packed() {
    let server = start();
    let packed = |body: &[u8]| frame(&gzip(body), true);
    for (n, reply, headers) in [(1, "a", &[][..]), (2, "b", &[("grpc-encoding", "gzip")])] {
        let body = protobuf(&export(n, reply));
        let body = if headers.is_empty() { frame(&body, false) } else { packed(&body) };
        let answer = call(&server, TRACES, headers, body);
        assert_eq!(answer.header("grpc-status"), "0", "{}", answer.header("grpc-message"));
        assert_eq!(answer.header("content-type"), "application/grpc+proto");
        assert_eq!(answer.message, b"", "an empty message is a full success");
    }
    let named = [("x-understudy-task", "triage")];
    call(&server, TRACES, &named, frame(&protobuf(&export(3, "c")), false));
    server.shows(&["a", "b", "c"]);
    assert_eq!(server.steps().iter().filter(|step| step.task.as_str() == "triage").count(), 1);
    // Nothing at all is a success as well, and the same body over HTTP is the same body.
    assert_eq!(call(&server, LOGS, &[], frame(b"", false)).header("grpc-status"), "0");
    server.bytes("/v1/traces", "application/x-protobuf", "identity", &protobuf(&export(1, "a")));
    assert_eq!(server.journal.counts().unwrap().bodies, 3);
}

#[test]
fn a_span_that_is_refused_is_told_with_the_others_taken() {
    let server = start();
    let mut nameless = export(1, "lost");
    let good = export(2, "kept");
    nameless["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["traceId"] = json!("");
    let both = [protobuf(&nameless), protobuf(&good)].concat();
    let answer = call(&server, TRACES, &[], frame(&both, false));
    assert_eq!(answer.header("grpc-status"), "0");
    // ExportTraceServiceResponse.partial_success.rejected_spans = 1
    assert_eq!(answer.message[..1], [0x0a]);
    assert_eq!(answer.message[2..4], [0x08, 1]);
    assert!(String::from_utf8_lossy(&answer.message).contains("trace id"));
    server.shows(&["kept"]);
}

#[test]
fn what_cannot_be_read_is_refused_for_good() {
    let server = start();
    let good = protobuf(&export(1, "a"));
    let mut short = frame(&good, false);
    short.pop();
    let cases: [(&str, Headers, Vec<u8>, u32); 7] = [
        (TRACES, &[], short, 3),
        (TRACES, &[], Vec::new(), 3),
        (TRACES, &[], frame(b"\xff\xff\xff", false), 3),
        (TRACES, &[], frame(&gzip(&good), true), 3),
        (TRACES, &[("grpc-encoding", "gzip")], frame(b"no gzip", true), 3),
        (TRACES, &[("grpc-encoding", "snappy")], frame(&good, true), 12),
        (TRACES, &[("x-understudy-task", "Bad Name")], frame(&good, false), 3),
    ];
    for (path, headers, body, code) in cases {
        let answer = call(&server, path, headers, body);
        assert_eq!(answer.status(), (code, None), "{headers:?}: {}", answer.header("grpc-message"));
        assert_ne!(answer.header("grpc-message"), "");
    }
    assert_eq!(server.journal.counts().unwrap().bodies, 0);
}

#[test]
fn what_is_too_large_is_exhausted_and_what_finds_no_room_may_come_again() {
    let limits = Limits { body_bytes: 2000, waiting_bytes: 1 << 20 };
    let server = start_limited(MockConfig::default(), false, limits);
    let large = frame(&protobuf(&export(1, &"x".repeat(3000))), false);
    assert_eq!(call(&server, TRACES, &[], large).status(), (8, None));
    // It unpacks to more than is let out.
    let bomb = frame(&gzip(&protobuf(&export(1, &"x".repeat(30_000)))), true);
    assert_eq!(call(&server, TRACES, &[("grpc-encoding", "gzip")], bomb).status(), (8, None));

    let limits = Limits { body_bytes: 2000, waiting_bytes: 10 };
    let server = start_limited(MockConfig::default(), false, limits);
    let answer = call(&server, TRACES, &[], frame(&protobuf(&export(1, "a")), false));
    assert_eq!(answer.status(), (14, Some(1)), "{}", answer.header("grpc-message"));
}

#[test]
fn a_full_disk_asks_to_come_back_later() {
    let server = start_small(300_000);
    let noise = |n: u32| -> String {
        (0..4000).map(|k| char::from(33 + (u64::from(n) * 7919 + k * k * 31) as u8 % 90)).collect()
    };
    let refused = (1..400).find_map(|n| {
        let answer = call(&server, TRACES, &[], frame(&protobuf(&export(n, &noise(n))), false));
        (answer.header("grpc-status") != "0").then_some(answer)
    });
    assert_eq!(refused.expect("the disk is full at some time").status(), (14, Some(30)));
}

#[test]
fn the_port_of_its_own_serves_nothing_else() {
    let server = start();
    let answer = call(&server, TRACES, &[], frame(&protobuf(&export(1, "a")), false));
    assert_eq!(answer.header("grpc-status"), "0");
    let metrics = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
    for path in [metrics, "/v1/models"] {
        assert_eq!(call(&server, path, &[], frame(b"", false)).status(), (12, None), "{path}");
    }
}

#[test]
fn where_keys_are_asked_for_exporters_need_one_too_and_tell_their_own_tenant() {
    let server = super::auth::guarded();
    let (acme, chats) = (server.key_of("acme"), server.key(&[Scope::Infer]));
    let body = || frame(&protobuf(&export(1, "a")), false);
    let bearer = |key: &Key| format!("Bearer {}", key.expose());
    assert_eq!(ask(&server, TRACES, &[], body()).0, 401);
    assert_eq!(ask(&server, TRACES, &[("authorization", &bearer(&chats))], body()).0, 403);
    let (status, answer) = ask(&server, TRACES, &[("authorization", &bearer(&acme))], body());
    assert_eq!((status, answer.header("grpc-status")), (200, "0"));
    server.shows(&["a"]);
    assert_eq!(server.steps()[0].task.as_str(), "acme.telemetry");
}
