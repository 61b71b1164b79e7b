//! `POST /v1/chat/completions`.

use axum::{extract::State, http::HeaderMap, response::Response};
use understudy_openai::{ChatRequest, ChatWriter};

use crate::{
    auth::Caller, body::Body, error::ApiError, exchange::Exchange, lengthy::lengthy, prompt,
    relay::Opening, respond::respond, state::Gateway,
};

pub(crate) async fn completions(
    State(gateway): State<Gateway>,
    caller: Caller,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, ApiError> {
    let request = lengthy(body.len(), || ChatRequest::parse(&body))?;
    prompt::check_template(&gateway, &request.chat)?;
    let exchange = Exchange::chat(&gateway, request, body.len(), (&headers, caller))?;
    let ask = &exchange.ask;
    let running = ask.stream.is_some_and(|options| options.continuous);
    let wants_prompt = ask.show.token_ids || ask.show.prompt_text || running;
    let mut requests = exchange.requests();
    let mut shown = None;
    if !exchange.routing.way.teacher && (wants_prompt || ask.truncate.is_some()) {
        let whole = requests.first().map(|request| request.prompt.clone());
        let whole = whole.ok_or_else(|| ApiError::internal("a chat without a choice"))?;
        let ask = exchange.ask_of_student();
        let prompt = prompt::truncated(&gateway, &ask, whole)?;
        if wants_prompt {
            shown = Some(prompt::shown(&gateway, &prompt)?);
        }
        if ask.truncate.is_some() {
            let adapter = exchange.routing.way.adapter.clone();
            requests = ask.requests(&prompt, adapter);
        }
    }
    let make = Box::new(move |opening: &Opening| {
        let (ids, text) = shown.map(|shown| (shown.ids, shown.text)).unzip();
        let request = opening.exchange.chat_request().expect("a chat stays one");
        Box::new(ChatWriter::new(opening.head(), &request, ids, text)) as Box<_>
    });
    respond(&gateway, exchange, requests, make).await
}
