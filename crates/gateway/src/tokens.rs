//! vLLM's `POST /tokenize` and `POST /detokenize`. There is one tokenizer, the base's, for every
//! name a request may give as `model`.

use axum::{Json, extract::State};
use serde_json::Value;
use tokio::task::block_in_place;
use understudy_inference::Prompt;
use understudy_openai::{DetokenizeBody, TokenizeBody, detokenized, tokenized};

use crate::{
    auth::Caller, body::Body, error::ApiError, lengthy::lengthy, models, prompt, state::Gateway,
};

pub(crate) async fn tokenize(
    State(gateway): State<Gateway>,
    caller: Caller,
    Body(body): Body,
) -> Result<Json<Value>, ApiError> {
    let body = lengthy(body.len(), || TokenizeBody::parse(&body))?;
    models::check(&gateway, &caller, body.model.as_deref())?;
    if let Prompt::Chat(chat) = &body.prompt {
        prompt::check_template(&gateway, chat)?;
    }
    let student = &gateway.student;
    let ids = block_in_place(|| student.tokenize(&body.prompt))?;
    let texts = body.texts.then(|| {
        let bytes = ids.iter().map(|id| student.token_bytes(*id).unwrap_or_default());
        bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect()
    });
    Ok(Json(tokenized(&ids, student.context(), texts)))
}

pub(crate) async fn detokenize(
    State(gateway): State<Gateway>,
    caller: Caller,
    Body(body): Body,
) -> Result<Json<Value>, ApiError> {
    let body = lengthy(body.len(), || DetokenizeBody::parse(&body))?;
    models::check(&gateway, &caller, body.model.as_deref())?;
    // Some tokenizers skip what they do not know, and half a text is a wrong answer.
    let unknown = body.tokens.iter().find(|id| gateway.student.token_bytes(**id).is_none());
    if let Some(id) = unknown {
        let why = format!("`tokens` holds {id}, which is not in the vocabulary");
        return Err(ApiError::bad_field("tokens", why));
    }
    let text = block_in_place(|| gateway.student.detokenize(&body.tokens))?;
    Ok(Json(detokenized(&text)))
}
