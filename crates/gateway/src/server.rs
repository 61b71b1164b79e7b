//! The routes, and a server that stops when it is told.

use std::future::Future;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    routing::{get, post},
};
use tokio::net::TcpListener;

use crate::{adapters, chat, feedback, state::Gateway, status};

/// A request body larger than this is refused before it is read whole.
const BODY_LIMIT: usize = 4 * 1024 * 1024;

/// Everything the gateway answers.
pub fn app(gateway: Gateway) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(chat::completions))
        .route("/v1/models", get(adapters::models))
        .route("/v1/load_lora_adapter", post(adapters::load))
        .route("/v1/unload_lora_adapter", post(adapters::unload))
        .route("/v1/feedback", post(feedback::post))
        .route("/health", get(status::health))
        .route("/api/v1/tasks", get(status::tasks))
        .route("/api/v1/journal", get(status::journal))
        .route("/api/v1/audit", get(status::audit))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(gateway)
}

/// Serves until `stop` resolves, then finishes the requests in flight.
pub async fn serve(
    listener: TcpListener,
    gateway: Gateway,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    axum::serve(listener, app(gateway)).with_graceful_shutdown(stop).await
}
