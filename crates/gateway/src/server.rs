//! The routes, and a server that stops when it is told.

mod connection;
mod loading;
mod slow;
mod tls;

use std::{future::Future, sync::Arc};

use axum::{
    Router,
    http::Uri,
    middleware,
    routing::{get, post},
};
use tokio::net::TcpListener;
use understudy_openai::ErrorReply;

pub(crate) use self::slow::is_slow;
pub use self::{
    connection::Patience,
    loading::serve_loading,
    tls::{Tls, TlsError},
};
use crate::{
    adapters,
    auth::{self, follow_keys},
    body::Body,
    chat, completions, control,
    error::ApiError,
    feedback, live, loops, memory, metrics, models, releases,
    state::Gateway,
    status, telemetry, tokens, trajectories, watch,
};

/// Everything the gateway answers.
pub fn app(gateway: Gateway) -> Router {
    Router::new()
        .merge(openai())
        .merge(vllm())
        .merge(telemetry::routes())
        .merge(feedback::routes())
        .merge(live::routes())
        .merge(loops::routes())
        .merge(watch::routes())
        .merge(memory::routes())
        .merge(releases::routes())
        .merge(trajectories::routes())
        .route("/api/v1/tasks", get(status::tasks))
        .route("/api/v1/journal", get(status::journal))
        .route("/api/v1/audit", get(status::audit))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(gateway.clone(), auth::admit))
        .with_state(gateway)
}

fn openai() -> Router<Gateway> {
    Router::new()
        .route("/v1/chat/completions", post(chat::completions))
        .route("/v1/completions", post(completions::text))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::one))
}

fn vllm() -> Router<Gateway> {
    Router::new()
        .route("/inference/v1/generate", post(completions::tokens))
        .route("/tokenize", post(tokens::tokenize))
        .route("/detokenize", post(tokens::detokenize))
        .route("/v1/load_lora_adapter", post(adapters::load))
        .route("/v1/unload_lora_adapter", post(adapters::unload))
        .route("/v1/rollback_lora_adapter", post(adapters::rollback))
        .route("/v1/lora_adapters", get(adapters::status))
        .route("/pause", post(control::pause))
        .route("/resume", post(control::resume))
        .route("/is_paused", get(control::is_paused))
        .route("/weight_info", get(control::weight_info))
        .route("/health", get(control::health))
        .route("/ready", get(control::ready))
        .route("/v1/health", get(control::ready))
        .route("/ping", get(control::ping).post(control::ping))
        .route("/version", get(control::version))
        .route("/load", get(control::load))
        .route("/metrics", get(metrics::page))
}

async fn unknown(uri: Uri, _: Body) -> ApiError {
    ApiError::not_found(format!("there is nothing at {}", uri.path()))
}

async fn wrong_method(uri: Uri, _: Body) -> ApiError {
    ApiError(ErrorReply::new(405, format!("{} takes another method", uri.path())))
}

/// Serves until `stop` resolves, then begins nothing new and finishes the requests in flight.
pub async fn serve(
    listener: TcpListener,
    gateway: Gateway,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    serve_with(listener, gateway, None, Patience::default(), stop).await
}

/// The same over TLS where there is any, with this much patience.
pub async fn serve_with(
    listener: TcpListener,
    gateway: Gateway,
    tls: Option<Tls>,
    patience: Patience,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    gateway.comment_after(patience.silence);
    gateway.wait_at_most(patience.longest_deadline);
    let reading = tokio::spawn(telemetry::read_for_ever(gateway.intake().clone()));
    let forgetting = tokio::spawn(telemetry::forget_for_ever(gateway.clone()));
    let expiring = tokio::spawn(adapters::expire_for_ever(gateway.clone()));
    let following = tokio::spawn(follow_keys(Arc::clone(gateway.shared_door())));
    let draining = gateway.clone();
    let stop = async move {
        stop.await;
        draining.drain();
    };
    connection::accept(listener, app(gateway), tls, patience, stop).await;
    // What has not been read is durable, and the next server reads it.
    reading.abort();
    forgetting.abort();
    expiring.abort();
    following.abort();
    Ok(())
}
