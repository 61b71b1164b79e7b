//! OTLP over gRPC: what exporters speak where nothing else was said, on port 4317.
//!
//! Both services have one unary method, so this is HTTP/2 with one framed message each way and the
//! result in the trailers. A call that is refused for want of room or disk says `UNAVAILABLE` and
//! brings a `google.rpc.RetryInfo`, without which exporters would give up; a message beyond the
//! limit says `RESOURCE_EXHAUSTED` and brings none, because sending it again would not help.

use std::net::SocketAddr;

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::post,
};
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use http_body_util::{BodyExt, Full};
use tokio::net::TcpListener;
use understudy_ingest::telemetry::{Compression, Encoding, status_details};
use understudy_intake::Received;

use super::{answer::Refusal, durable, read::read, task, text};
use crate::{
    auth::{Caller, Peer, admit},
    error::seconds,
    state::Gateway,
};

/// Before every message: whether it is packed, and its length.
const PREFIX: usize = 5;

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
const ACCEPTED: HeaderName = HeaderName::from_static("grpc-accept-encoding");

const UNIMPLEMENTED: u8 = 12;

pub(crate) fn routes() -> Router<Gateway> {
    Router::new()
        .route("/opentelemetry.proto.collector.trace.v1.TraceService/Export", post(traces))
        .route("/opentelemetry.proto.collector.logs.v1.LogsService/Export", post(logs))
}

/// Serves nothing but these, until `stop` resolves.
pub async fn serve_grpc(
    listener: TcpListener,
    gateway: Gateway,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let app = routes()
        .fallback(unknown)
        .layer(middleware::from_fn_with_state(gateway.clone(), admit))
        .layer(middleware::from_fn(seen))
        .with_state(gateway)
        .into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, app).with_graceful_shutdown(stop).await
}

/// Tells the door who is at the other end. What it refuses with, statuses of HTTP, gRPC's clients
/// read as their own: 401 is `UNAUTHENTICATED`, 403 `PERMISSION_DENIED`, 429 `UNAVAILABLE`.
async fn seen(
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    request.extensions_mut().insert(Peer(from.ip()));
    next.run(request).await
}

async fn traces(State(gateway): State<Gateway>, caller: Caller, request: Request) -> Response {
    answer(receive(&gateway, &caller, "otlp-traces", request).await)
}

async fn logs(State(gateway): State<Gateway>, caller: Caller, request: Request) -> Response {
    answer(receive(&gateway, &caller, "otlp-logs", request).await)
}

/// Metrics, profiles and whatever else exporters may be set to send.
async fn unknown(uri: Uri) -> Response {
    let why = format!("there is no method {}; traces and logs are taken", uri.path());
    failed(UNIMPLEMENTED, &why, None)
}

fn answer(result: Result<Received, Failure>) -> Response {
    match result {
        Ok(received) => succeeded(&received.decoded.answer(&received.payload, Encoding::Protobuf)),
        Err(Failure::NotGrpc) => StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response(),
        Err(Failure::Unimplemented(why)) => failed(UNIMPLEMENTED, &why, None),
        Err(Failure::Refused(refusal)) => {
            failed(refusal.grpc_code(), &refusal.why, refusal.retry_after.map(seconds))
        }
    }
}

enum Failure {
    NotGrpc,
    Unimplemented(String),
    Refused(Refusal),
}

impl<T: Into<Refusal>> From<T> for Failure {
    fn from(why: T) -> Self {
        Self::Refused(why.into())
    }
}

async fn receive(
    gateway: &Gateway,
    caller: &Caller,
    payload: &'static str,
    request: Request,
) -> Result<Received, Failure> {
    let headers = request.headers().clone();
    let kind = text(&headers, header::CONTENT_TYPE.as_str()).unwrap_or_default();
    if !matches!(kind, "application/grpc" | "application/grpc+proto") {
        return Err(Failure::NotGrpc);
    }
    let task = task(caller, &headers)?;
    let packing = packing(&headers)?;
    let intake = gateway.intake().clone();
    let (frame, mut room) = read(&intake, &headers, request.into_body()).await?;
    let compression = compression(&frame, packing)?;
    let work = move || -> Result<Received, Refusal> {
        let body = &frame[PREFIX..];
        if compression != Compression::None {
            // It is not known yet what comes out, which is at most as much as is let out.
            room.grow(intake.limits().body_bytes.min(body.len().saturating_mul(8)))?;
        }
        let content_type = Encoding::Protobuf.content_type();
        Ok(intake.receive(understudy_intake::Request {
            task,
            payload,
            content_type,
            compression,
            body,
        })?)
    };
    let joined = tokio::task::spawn_blocking(work).await;
    let mut received = joined.map_err(|why| Refusal::failed(why.to_string()))??;
    if let Some(ack) = received.ack.take() {
        durable(ack).await?;
    }
    Ok(received)
}

/// How a message is packed if it says that it is.
fn packing(headers: &HeaderMap) -> Result<Compression, Failure> {
    let named = text(headers, "grpc-encoding");
    Compression::named(named).ok_or_else(|| {
        let named = named.unwrap_or_default();
        Failure::Unimplemented(format!("`grpc-encoding: {named}` is not read; gzip and zstd are"))
    })
}

/// Of the one message in the body, which must be whole and alone.
fn compression(frame: &[u8], packing: Compression) -> Result<Compression, Refusal> {
    let wrong = |why: &str| Err(Refusal::invalid(format!("the body is no single message: {why}")));
    let Some((prefix, message)) = frame.split_first_chunk::<PREFIX>() else {
        return wrong("it has not even a length");
    };
    let [packed, length @ ..] = *prefix;
    if u32::from_be_bytes(length) as usize != message.len() {
        return wrong("its length is not what it says");
    }
    match (packed, packing) {
        (0, _) => Ok(Compression::None),
        (1, Compression::None) => wrong("it is packed, and `grpc-encoding` does not say how"),
        (1, packing) => Ok(packing),
        _ => wrong("its first byte is neither 0 nor 1"),
    }
}

fn succeeded(message: &[u8]) -> Response {
    let mut frame = vec![0];
    frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
    frame.extend_from_slice(message);
    let mut trailers = HeaderMap::new();
    trailers.insert(STATUS, HeaderValue::from_static("0"));
    let body = Full::new(Bytes::from(frame)).with_trailers(std::future::ready(Some(Ok(trailers))));
    let mut response = Response::new(Body::new(body));
    mark(&mut response);
    response
}

/// Headers without a body, which stand for trailers.
fn failed(code: u8, why: &str, retry_after: Option<u64>) -> Response {
    let mut response = Response::new(Body::empty());
    mark(&mut response);
    let details = STANDARD_NO_PAD.encode(status_details(code, why, retry_after));
    let headers = response.headers_mut();
    headers.insert(STATUS, HeaderValue::from(u16::from(code)));
    let texts = [(MESSAGE, percent_encoded(why)), (DETAILS, details)];
    for (name, value) in texts {
        // Both are ASCII; a value that were not would only leave the explanation out.
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
    response
}

fn mark(response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc+proto"));
    headers.insert(ACCEPTED, HeaderValue::from_static("identity,gzip,zstd"));
}

/// As the gRPC protocol writes messages: everything but printable ASCII, and `%`, in hexadecimal.
fn percent_encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b' '..=b'~' if byte != b'%' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}
