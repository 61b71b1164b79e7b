//! Telemetry of applications, under the paths that their clients send it to.
//!
//! | path | what |
//! | --- | --- |
//! | `POST /v1/traces`, `/v1/logs`, and `/api/public/otel/v1/traces` as Langfuse's SDK has it | OTLP over HTTP, protobuf and JSON |
//! | `GET /info`, `POST /runs/multipart`, `/runs/batch`, `/feedback` | LangSmith's client |
//! | `POST /api/public/scores` | Langfuse's scores |
//! | `POST /opentelemetry.proto.collector.trace.v1.TraceService/Export`, `…logs.v1.LogsService/Export` | OTLP over gRPC |
//! | `POST /v1/traces/ingest` | the exporter of the OpenAI Agents SDK |
//!
//! Bodies come plain, gzip or zstd. Every success means durable. 429 is said where there is no room
//! now, 503 where the disk takes no more, both with `retry-after`.

mod answer;
mod grpc;
mod read;

use std::time::Duration;

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{HeaderMap, header},
    response::Response,
    routing::{get, post},
};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use understudy_ident::{TaskName, Timestamp};
use understudy_ingest::telemetry::{Compression, Encoding};
use understudy_intake::{Intake, IntakeError, Received};
use understudy_journal::{Appended, JournalError};

pub use self::grpc::serve_grpc;
use self::{
    answer::{Refusal, Style},
    read::read,
};
use crate::{auth::Caller, state::Gateway};

/// The task that calls are counted to where `x-understudy-task` names none.
pub(crate) const TASK: &str = "telemetry";

/// How long what has arrived may wait to be read.
const PAUSE: Duration = Duration::from_millis(250);

/// How long to wait after a failure, of a disk that is full say.
const FAILED: Duration = Duration::from_secs(5);

pub(crate) fn routes() -> Router<Gateway> {
    Router::new()
        .route("/v1/traces", post(otlp_traces))
        .route("/v1/logs", post(otlp_logs))
        .route("/api/public/otel/v1/traces", post(otlp_traces))
        .route("/info", get(info))
        .route("/runs/multipart", post(langsmith_multipart))
        .route("/runs/batch", post(langsmith_batch))
        .route("/feedback", post(langsmith_feedback))
        .route("/api/public/scores", post(langfuse_scores))
        .route("/v1/traces/ingest", post(openai_agents))
        .merge(grpc::routes())
}

/// Makes trajectories of what was received, as long as the server runs.
pub(crate) async fn read_for_ever(intake: Intake) {
    loop {
        let one = intake.clone();
        let pause = match tokio::task::spawn_blocking(move || one.advance()).await {
            Ok(Ok(progress)) if progress.bodies > 0 => continue,
            Ok(Ok(_)) => PAUSE,
            Ok(Err(IntakeError::Journal(JournalError::Closed))) => return,
            Ok(Err(why)) => {
                tracing::warn!("telemetry waits to be read: {why}");
                FAILED
            }
            Err(why) => {
                tracing::error!("reading telemetry ended badly: {why}");
                FAILED
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Forgets raw bodies that are old enough, as long as the server runs and where it is to.
pub(crate) async fn forget_for_ever(gateway: Gateway) {
    let Some(age) = gateway.keep_raw() else { return };
    // Often enough that nothing is kept much longer, and seldom enough to cost nothing.
    let pause = (age / 24).clamp(Duration::from_millis(250), Duration::from_hours(1));
    loop {
        let before = gateway
            .clock
            .now()
            .as_millisecond()
            .saturating_sub_unsigned(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        let before = Timestamp::from_millisecond(before).unwrap_or(Timestamp::MIN);
        let intake = gateway.intake().clone();
        match tokio::task::spawn_blocking(move || intake.expire(before)).await {
            Ok(Ok(0)) => {}
            Ok(Ok(bodies)) => tracing::info!(bodies, "raw telemetry was old enough to forget"),
            Ok(Err(IntakeError::Journal(JournalError::Closed))) => return,
            Ok(Err(why)) => tracing::warn!("raw telemetry could not be forgotten: {why}"),
            Err(why) => tracing::error!("forgetting raw telemetry ended badly: {why}"),
        }
        tokio::time::sleep(pause).await;
    }
}

/// What LangSmith's client asks before it sends: how large batches may be, and how packed.
async fn info(State(gateway): State<Gateway>) -> Json<Value> {
    let limit = gateway.intake().limits().body_bytes;
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "batch_ingest_config": {
            "use_multipart_endpoint": true, "size_limit": 100, "size_limit_bytes": limit.min(20 << 20),
            "scale_up_nthreads_limit": 16, "scale_up_qsize_trigger": 1000,
            "scale_down_nempty_trigger": 4,
        },
        "instance_flags": {"zstd_compression_enabled": true},
    }))
}

async fn otlp_traces(State(gateway): State<Gateway>, caller: Caller, request: Request) -> Response {
    take(&gateway, &caller, "otlp-traces", Style::otlp(request.headers()), request).await
}

async fn otlp_logs(State(gateway): State<Gateway>, caller: Caller, request: Request) -> Response {
    take(&gateway, &caller, "otlp-logs", Style::otlp(request.headers()), request).await
}

async fn langsmith_multipart(
    State(gateway): State<Gateway>,
    caller: Caller,
    request: Request,
) -> Response {
    take(&gateway, &caller, "langsmith-multipart", Style::Accepted, request).await
}

async fn langsmith_batch(
    State(gateway): State<Gateway>,
    caller: Caller,
    request: Request,
) -> Response {
    take(&gateway, &caller, "langsmith-runs", Style::Accepted, request).await
}

async fn langsmith_feedback(
    State(gateway): State<Gateway>,
    caller: Caller,
    request: Request,
) -> Response {
    take(&gateway, &caller, "langsmith-feedback", Style::Echo, request).await
}

async fn langfuse_scores(
    State(gateway): State<Gateway>,
    caller: Caller,
    request: Request,
) -> Response {
    take(&gateway, &caller, "langfuse-scores", Style::Echo, request).await
}

async fn openai_agents(
    State(gateway): State<Gateway>,
    caller: Caller,
    request: Request,
) -> Response {
    take(&gateway, &caller, "openai-agents", Style::Empty, request).await
}

async fn take(
    gateway: &Gateway,
    caller: &Caller,
    payload: &'static str,
    style: Style,
    request: Request,
) -> Response {
    match receive(gateway, caller, payload, request).await {
        Ok(received) => style.answer(&received),
        Err(refusal) => style.refuse(&refusal),
    }
}

/// Reads a request and answers once its body is durable.
async fn receive(
    gateway: &Gateway,
    caller: &Caller,
    payload: &'static str,
    request: Request,
) -> Result<Received, Refusal> {
    let headers = request.headers().clone();
    let (task, compression) = (task(caller, &headers)?, compression(&headers)?);
    let content_type = text(&headers, header::CONTENT_TYPE.as_str()).unwrap_or_default().to_owned();
    let intake = gateway.intake().clone();
    let (body, mut room) = read(&intake, &headers, request.into_body()).await?;
    let work = move || -> Result<Received, Refusal> {
        if compression != Compression::None {
            // It is not known yet what comes out, which is at most as much as is let out.
            room.grow(intake.limits().body_bytes.min(body.len().saturating_mul(8)))?;
        }
        Ok(intake.receive(understudy_intake::Request {
            task,
            payload,
            content_type: &content_type,
            compression,
            body: &body,
        })?)
    };
    let joined = tokio::task::spawn_blocking(work).await;
    let mut received = joined.map_err(|why| Refusal::failed(why.to_string()))??;
    if let Some(ack) = received.ack.take() {
        durable(ack).await?;
    }
    Ok(received)
}

/// Waits for a promise without a thread.
pub(crate) async fn durable(ack: understudy_journal::Ack) -> Result<Appended, JournalError> {
    let (committed, wait) = oneshot::channel();
    ack.on_durable(move |result| {
        // The waiting side goes away only with its connection, when nobody is left to tell.
        committed.send(result).ok();
    });
    wait.await.unwrap_or(Err(JournalError::Closed))
}

fn task(caller: &Caller, headers: &HeaderMap) -> Result<TaskName, Refusal> {
    let name = text(headers, "x-understudy-task").unwrap_or(TASK);
    caller.task(name).ok_or_else(|| {
        let why = format!(
            "`x-understudy-task`: {name:?} is not a task of yours: use 1 to 64 of a-z, 0-9 and `-`, \
             starting with a letter"
        );
        Refusal::invalid(why)
    })
}

fn compression(headers: &HeaderMap) -> Result<Compression, Refusal> {
    let named = text(headers, header::CONTENT_ENCODING.as_str());
    Compression::named(named).ok_or_else(|| Refusal {
        status: 415,
        why: "`content-encoding` can be gzip or zstd".to_owned(),
        retry_after: None,
    })
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

impl Style {
    /// OTLP's answers are in the encoding of the request.
    fn otlp(headers: &HeaderMap) -> Self {
        let content_type = text(headers, header::CONTENT_TYPE.as_str()).unwrap_or_default();
        Self::Otlp(Encoding::of(content_type).unwrap_or(Encoding::Json))
    }
}
