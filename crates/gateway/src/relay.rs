//! Between a backend's thread and an async reply: forwards events, records the exchange, and tells
//! the client it is over only once the record is durable.

use std::{ops::ControlFlow, sync::Arc};

use tokio::sync::{mpsc, oneshot};
use understudy_inference::{Backend, Completion, Delta, Event, InferenceError, Served};
use understudy_router::Target;
use understudy_trajectory::Step;

use crate::{error::ApiError, exchange::Exchange, state::Gateway};

/// What a reply is made of, in order: one `Started`, any number of `Delta`, then `Done` or
/// `Failed`. Everything before `Done` may reach the client early; `Done` means journalled.
#[derive(Debug)]
pub(crate) enum Part {
    Started(Served),
    Delta(String),
    Done(Box<Completion>),
    Failed(ApiError),
}

/// Starts the generation. Dropping the receiver cancels it; what was said until then is recorded.
pub(crate) fn start(
    gateway: &Gateway,
    exchange: Exchange,
) -> Result<mpsc::UnboundedReceiver<Part>, ApiError> {
    let backend = backend(gateway, &exchange.target)?;
    // Unbounded, because a backend's thread must never wait for a slow reader; what can queue up
    // is bounded by `max_tokens`.
    let (events_in, events) = mpsc::unbounded_channel();
    let (parts_in, parts) = mpsc::unbounded_channel();
    backend.submit(
        exchange.generate_request(),
        Box::new(move |event| match events_in.send(event) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }),
    )?;
    tokio::spawn(relay(gateway.clone(), exchange, events, parts_in));
    Ok(parts)
}

fn backend(gateway: &Gateway, target: &Target) -> Result<Arc<dyn Backend>, ApiError> {
    match target {
        Target::Base | Target::Adapter { .. } => {
            Ok(Arc::clone(&gateway.student) as Arc<dyn Backend>)
        }
        Target::Teacher => gateway.teacher.clone().ok_or_else(|| {
            ApiError::unavailable(
                "this task is routed to the teacher, but no teacher is configured; \
                 set [teacher] in understudy.toml",
            )
        }),
    }
}

async fn relay(
    gateway: Gateway,
    exchange: Exchange,
    mut events: mpsc::UnboundedReceiver<Event>,
    parts: mpsc::UnboundedSender<Part>,
) {
    let mut sent = String::new();
    let mut served = None;
    let last = loop {
        let event = tokio::select! {
            event = events.recv() => event,
            () = parts.closed() => break Err(None),
        };
        match event {
            Some(Event::Started(who)) => {
                served = Some(who.clone());
                // A failed send is noticed by `closed` at the next turn.
                parts.send(Part::Started(who)).ok();
            }
            Some(Event::Delta(Delta { text, .. })) => {
                sent.push_str(&text);
                parts.send(Part::Delta(text)).ok();
            }
            Some(Event::Finished(completion)) => break Ok(completion),
            Some(Event::Failed(error)) => break Err(Some(error)),
            None => break Err(Some(InferenceError::ShuttingDown)),
        }
    };
    let (step, part) = match last {
        Ok(completion) => (exchange.finished(&completion), Part::Done(completion)),
        Err(Some(error)) => {
            (exchange.broken(&sent, served, error.to_string()), Part::Failed(error.into()))
        }
        Err(None) => {
            let why = "the client went away".to_owned();
            let gone = ApiError::internal(why.as_str());
            (exchange.broken(&sent, served, why), Part::Failed(gone))
        }
    };
    let part = match record(&gateway, step).await {
        Ok(()) => part,
        Err(error) => Part::Failed(error),
    };
    parts.send(part).ok();
}

/// Journals the step and waits until it is durable.
async fn record(gateway: &Gateway, step: Step) -> Result<(), ApiError> {
    let id = step.id.clone();
    let failed = |why: String| {
        tracing::error!(step = %id, %why, "an exchange could not be journalled");
        ApiError::unavailable(format!("the exchange could not be recorded: {why}"))
    };
    let ack = gateway.journal.append_step(step).map_err(|why| failed(why.to_string()))?;
    let (committed, wait) = oneshot::channel();
    ack.on_commit(move |result| {
        // The waiting side goes away only at shutdown, when nobody is left to tell.
        committed.send(result.map_err(|why| why.to_string())).ok();
    });
    match wait.await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(why)) => Err(failed(why)),
        Err(_) => Err(failed("the journal is closing".to_owned())),
    }
}
