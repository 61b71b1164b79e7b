//! A server that has nothing to answer with yet.

use std::future::Future;

use axum::{Router, routing::get};
use tokio::net::TcpListener;
use understudy_openai::ErrorReply;

use super::{
    connection::{self, Patience},
    tls::Tls,
};
use crate::{body::Body, control, error::ApiError};

/// Until `stop`, tells whoever asks that `model` is being loaded, instead of leaving them without an
/// answer: a model takes its time, and a port where nobody listens could as well be the wrong one.
pub async fn serve_loading(
    listener: TcpListener,
    model: &str,
    tls: Option<Tls>,
    patience: Patience,
    stop: impl Future<Output = ()>,
) {
    let why = format!("Loading model `{model}`; ask again when it is in memory");
    let reply = ErrorReply::new(503, why).because("loading_model");
    let app = Router::new()
        .route("/ping", get(control::ping).post(control::ping))
        .route("/version", get(control::version))
        .fallback(move |_: Body| async move { ApiError(reply) });
    connection::accept(listener, app, tls, patience, stop).await;
}
