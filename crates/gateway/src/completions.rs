//! `POST /v1/completions` and vLLM's `POST /inference/v1/generate`: prompts that are no
//! conversation. They are answered by whoever `model` stands for and are not journalled, because
//! there are no messages to learn from.

use axum::{extract::State, http::HeaderMap, response::Response};
use understudy_openai::{
    CompletionRequest, CompletionWriter, GenerateBody, GenerateWriter, ReplyHead,
};

use crate::{
    auth::Caller, body::Body, error::ApiError, exchange::Exchange, lengthy::lengthy, prompt,
    relay::Opening, respond::respond, state::Gateway,
};

/// More generations than this from one request are a mistake, or an attack.
const MOST_GENERATIONS: usize = 256;

pub(crate) async fn text(
    State(gateway): State<Gateway>,
    caller: Caller,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, ApiError> {
    let request = lengthy(body.len(), || CompletionRequest::parse(&body))?;
    if request.prompts.len() * request.ask.n as usize > MOST_GENERATIONS {
        let why = format!("`prompt` times `n` must be at most {MOST_GENERATIONS} completions");
        return Err(ApiError::bad_field("prompt", why));
    }
    let exchange = Exchange::plain(&gateway, &request.ask, (&headers, caller))?;
    our_own(&exchange)?;
    let (shown, requests) = prompt::of_completions(&gateway, &exchange, &request)
        .map_err(|why| why.of_prompt("prompt"))?;
    let make = Box::new(move |opening: &Opening| {
        Box::new(CompletionWriter::new(opening.head(), &request, shown)) as Box<_>
    });
    let reply = respond(&gateway, exchange, requests, make).await;
    reply.map_err(|why| why.of_prompt("prompt"))
}

pub(crate) async fn tokens(
    State(gateway): State<Gateway>,
    caller: Caller,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, ApiError> {
    let request = lengthy(body.len(), || GenerateBody::parse(&body))?;
    let exchange = Exchange::plain(&gateway, &request.ask, (&headers, caller))?;
    our_own(&exchange)?;
    let prompt = prompt::truncated(&gateway, &exchange.ask, request.prompt.clone())
        .map_err(|why| why.of_prompt("token_ids"))?;
    let requests = exchange.ask.requests(&prompt, exchange.routing.way.adapter.clone());
    let make = Box::new(move |opening: &Opening| {
        let head = ReplyHead { id: opening.exchange.request_id(), ..opening.head() };
        Box::new(GenerateWriter::new(head, &request)) as Box<_>
    });
    let reply = respond(&gateway, exchange, requests, make).await;
    reply.map_err(|why| why.of_prompt("token_ids"))
}

fn our_own(exchange: &Exchange) -> Result<(), ApiError> {
    if !exchange.routing.way.teacher {
        return Ok(());
    }
    let why = "this task is answered by a teacher, to whom prompts that are no conversation mean \
               nothing; use /v1/chat/completions";
    Err(ApiError::bad_field("model", why))
}
