//! A reply as server-sent events, in the order OpenAI's clients expect.

use std::convert::Infallible;

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt, wrappers::UnboundedReceiverStream};
use understudy_inference::Served;

use crate::{exchange::Exchange, openai::ReplyHead, relay::Part};

/// Role first, then text, then the finish reason, then usage if asked for, then `[DONE]`; the last
/// three only once the exchange is durable.
pub(crate) fn stream(
    exchange: &Exchange,
    served: &Served,
    parts: mpsc::UnboundedReceiver<Part>,
) -> Response {
    let head = exchange.head(served);
    let include_usage = exchange.request.include_usage;
    let opening = line(&head.chunk(json!({"role": "assistant", "content": ""}), None));
    let rest =
        UnboundedReceiverStream::new(parts).map(move |part| lines(&head, part, include_usage));
    let body =
        tokio_stream::once(opening).chain(rest).map(|text| Ok::<_, Infallible>(Bytes::from(text)));
    let mut response = (exchange.headers(served), Body::from_stream(body)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn lines(head: &ReplyHead, part: Part, include_usage: bool) -> String {
    match part {
        Part::Started(_) => String::new(),
        Part::Delta(text) => line(&head.chunk(json!({"content": text}), None)),
        Part::Failed(error) => format!("{}data: [DONE]\n\n", line(&error.to_json())),
        Part::Done(completion) => {
            let reason = completion.finish_reason.as_openai();
            let mut text = line(&head.chunk(json!({}), Some(reason)));
            if include_usage {
                text.push_str(&line(&head.usage_chunk(completion.usage)));
            }
            text.push_str("data: [DONE]\n\n");
            text
        }
    }
}

fn line(value: &Value) -> String {
    format!("data: {value}\n\n")
}
