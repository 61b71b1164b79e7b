//! From parts to a reply: whole, or as server-sent events.

use std::time::Duration;

use axum::{
    Json,
    body::{Body, Bytes},
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use serde_json::Value;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use understudy_inference::{Delta, GenerateRequest};
use understudy_openai::{Answer, ReplyWriter};

use crate::{
    error::ApiError,
    exchange::Exchange,
    relay::{self, Opening, Part},
    state::Gateway,
};

/// Shows that a stream is still there. Clients skip it.
const COMMENT: &str = ": keep-alive\n\n";
const DONE: &str = "data: [DONE]\n\n";

/// Makes the writer of a reply once it is known who answers.
pub(crate) type MakeWriter = Box<dyn FnOnce(&Opening) -> Box<dyn ReplyWriter> + Send>;

pub(crate) async fn respond(
    gateway: &Gateway,
    exchange: Exchange,
    mut requests: Vec<GenerateRequest>,
    make: MakeWriter,
) -> Result<Response, ApiError> {
    let choices = requests.len();
    for request in &mut requests {
        request.admission.timeout = exchange.time_left();
    }
    let (exchange, mut parts) = relay::start(gateway, exchange, requests)?;
    if exchange.ask.stream.is_none() {
        return whole(parts, choices, make).await;
    }
    // Waiting for the first part lets an early failure be a status code instead of a broken
    // stream; waiting for ever would lose the connection.
    let silence = gateway.silence();
    let mut script = Script { make: Some(make), writer: None, left: choices, silence };
    let (first, headers) = match timeout(silence, parts.recv()).await {
        Err(_) => (COMMENT.to_owned(), exchange.headers(None)),
        Ok(Some(Part::Failed(error))) => return Err(error),
        Ok(Some(Part::Started(opening))) => {
            let headers = opening.headers();
            (script.lines(Part::Started(opening)).0, headers)
        }
        Ok(Some(Part::Delta(..) | Part::Done(..)) | None) => return Err(no_start()),
    };
    let (text_in, text) = mpsc::channel(1);
    tokio::spawn(script.play(parts, text_in));
    let body = tokio_stream::once(first).chain(ReceiverStream::new(text));
    let body =
        Body::from_stream(body.map(|text| Ok::<_, std::convert::Infallible>(Bytes::from(text))));
    let mut headers = headers;
    headers.extend(event_stream());
    Ok((headers, body).into_response())
}

fn event_stream() -> HeaderMap {
    HeaderMap::from_iter([
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ])
}

async fn whole(
    mut parts: mpsc::Receiver<Part>,
    choices: usize,
    make: MakeWriter,
) -> Result<Response, ApiError> {
    let mut scored = vec![Vec::new(); choices];
    let mut answers: Vec<Option<Answer>> = vec![None; choices];
    let mut opening = None;
    while let Some(part) = parts.recv().await {
        match part {
            Part::Started(started) => opening = Some(started),
            Part::Failed(error) => return Err(error),
            Part::Delta(choice, Delta { tokens, .. }) => scored[choice].extend(tokens),
            Part::Done(choice, completion) => {
                let scored = std::mem::take(&mut scored[choice]);
                answers[choice] = Some(Answer { completion: *completion, scored });
            }
        }
    }
    let answers: Option<Vec<Answer>> = answers.into_iter().collect();
    let answers = answers.filter(|answers| !answers.is_empty()).ok_or_else(no_end)?;
    let opening = opening.ok_or_else(no_start)?;
    let body = make(&opening).whole(&answers);
    Ok((opening.headers(), Json(body)).into_response())
}

fn no_start() -> ApiError {
    ApiError::internal("the backend began with something else than a start")
}

fn no_end() -> ApiError {
    ApiError::internal("the generation ended without an end")
}

/// A stream's text, part by part.
struct Script {
    make: Option<MakeWriter>,
    writer: Option<Box<dyn ReplyWriter>>,
    /// Choices that are not done.
    left: usize,
    /// How long nothing may be said.
    silence: Duration,
}

impl Script {
    /// Until the last line is taken, or nobody takes them any more. A slow reader is waited for
    /// here, and the relay joins what comes meanwhile.
    async fn play(mut self, mut parts: mpsc::Receiver<Part>, text: mpsc::Sender<String>) {
        loop {
            let part = tokio::select! {
                part = timeout(self.silence, parts.recv()) => part,
                () = text.closed() => return,
            };
            let (lines, over) = match part {
                Err(_) => (COMMENT.to_owned(), false),
                Ok(Some(part)) => self.lines(part),
                Ok(None) => self.lines(Part::Failed(no_end())),
            };
            if (!lines.is_empty() && text.send(lines).await.is_err()) || over {
                return;
            }
        }
    }

    /// What a part adds, and whether it was the last.
    fn lines(&mut self, part: Part) -> (String, bool) {
        if let Part::Started(started) = &part {
            let Some(make) = self.make.take() else { return (String::new(), false) };
            let opening = self.writer.insert(make(started)).open();
            return (text_of(&opening), false);
        }
        let Some(writer) = &mut self.writer else {
            return match part {
                Part::Failed(error) => (failure(&error), true),
                Part::Started(_) | Part::Delta(..) | Part::Done(..) => (failure(&no_start()), true),
            };
        };
        match part {
            Part::Started(_) => (String::new(), false),
            Part::Failed(error) => (failure(&error), true),
            Part::Delta(choice, delta) => (text_of(&writer.delta(choice, &delta)), false),
            Part::Done(choice, completion) => {
                let mut lines = text_of(&writer.done(choice, &completion));
                self.left -= 1;
                if self.left == 0 {
                    lines.push_str(&text_of(&writer.end()));
                    lines.push_str(DONE);
                }
                (lines, self.left == 0)
            }
        }
    }
}

/// Not followed by `[DONE]`: what ends like this is not a whole reply, and must not look like one.
fn failure(error: &ApiError) -> String {
    format!("data: {}\n\n", error.to_json())
}

fn text_of(chunks: &[Value]) -> String {
    let events = chunks.iter().map(|chunk| format!("data: {chunk}\n\n"));
    events.collect::<Vec<_>>().concat()
}
