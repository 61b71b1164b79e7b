//! `POST /v1/chat/completions`.

use axum::{
    Json,
    body::Bytes,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use understudy_inference::Served;

use crate::{
    error::ApiError,
    exchange::Exchange,
    openai::ChatRequest,
    relay::{self, Part},
    sse,
    state::Gateway,
};

pub(crate) async fn completions(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let request = ChatRequest::parse(&body)?;
    let exchange = Exchange::open(&gateway, request, &headers)?;
    let mut parts = relay::start(&gateway, exchange.clone())?;
    // Waiting for the first part lets an early failure be a status code instead of a broken stream.
    let served = match parts.recv().await {
        Some(Part::Started(served)) => served,
        Some(Part::Failed(error)) => return Err(error),
        Some(Part::Delta(_) | Part::Done(_)) | None => {
            return Err(ApiError::internal("the backend began with something else than a start"));
        }
    };
    if exchange.request.stream {
        Ok(sse::stream(&exchange, &served, parts))
    } else {
        whole(&exchange, served, parts).await
    }
}

async fn whole(
    exchange: &Exchange,
    served: Served,
    mut parts: tokio::sync::mpsc::UnboundedReceiver<Part>,
) -> Result<Response, ApiError> {
    while let Some(part) = parts.recv().await {
        match part {
            Part::Started(_) | Part::Delta(_) => {}
            Part::Failed(error) => return Err(error),
            Part::Done(completion) => {
                let body = exchange.head(&served).reply(&completion);
                return Ok((exchange.headers(&served), Json(body)).into_response());
            }
        }
    }
    Err(ApiError::internal("the generation ended without an end"))
}
