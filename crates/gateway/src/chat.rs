//! `POST /v1/chat/completions`.

use axum::{extract::State, http::HeaderMap, response::Response};
use understudy_openai::{ChatRequest, ChatWriter};

use crate::{
    auth::Caller, body::Body, error::ApiError, exchange::Exchange, prompt, respond::respond,
    state::Gateway,
};

pub(crate) async fn completions(
    State(gateway): State<Gateway>,
    caller: Caller,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, ApiError> {
    let (exchange, request) =
        Exchange::chat(&gateway, ChatRequest::parse(&body)?, (&headers, caller))?;
    let ask = &exchange.ask;
    let prompt = prompt::truncated(&gateway, &exchange, request.prompt())?;
    let running = ask.stream.is_some_and(|options| options.continuous);
    let wants_prompt = ask.show.token_ids || ask.show.prompt_text || running;
    let shown = if wants_prompt && !exchange.routing.teacher {
        Some(prompt::shown(&gateway, &prompt)?)
    } else {
        None
    };
    let requests = ask.requests(&prompt, exchange.routing.adapter.clone());
    let described = exchange.clone();
    let make = Box::new(move |served: &_| {
        let (ids, text) = shown.map(|shown| (shown.ids, shown.text)).unzip();
        let writer = ChatWriter::new(described.head(served), &request, ids, text);
        Box::new(writer) as Box<_>
    });
    respond(&gateway, &exchange, requests, make).await
}
