//! Handing generations over to whoever answers, and hearing of them.

use std::{ops::ControlFlow, sync::Arc};

use tokio::{sync::mpsc, task::block_in_place};
use understudy_inference::{Backend, CancelToken, Event, GenerateRequest, InferenceError, Sink};

use crate::{lengthy::lengthy, routing::Way, state::Gateway};

/// What comes of one generation. Whoever lets go of it does not want the rest, which the one who
/// answers learns at once, and not only with the next token.
#[derive(Debug)]
pub(crate) struct Events {
    events: mpsc::UnboundedReceiver<Event>,
    cancel: CancelToken,
}

impl Events {
    pub(crate) async fn recv(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    pub(super) fn close(&mut self) {
        self.events.close();
        self.cancel.cancel();
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.close();
    }
}

/// Asks a way for several generations of a request of this many bytes; either all are under way or
/// none is.
pub(crate) fn submit(
    gateway: &Gateway,
    (way, bytes): (&Way, usize),
    requests: Vec<GenerateRequest>,
) -> Result<Vec<Events>, InferenceError> {
    let mut choices = Vec::with_capacity(requests.len());
    let mut submitted = Vec::with_capacity(requests.len());
    for mut request in requests {
        // Unbounded, because a backend's thread must never wait for a slow reader. It stays short,
        // because the relay always takes from it, whether or not the reader does.
        let (events_in, events) = mpsc::unbounded_channel();
        let sink: Sink = Box::new(move |event| match events_in.send(event) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        });
        let cancel = CancelToken::armed();
        request.admission.cancel = cancel.clone();
        submitted.push((request, sink));
        choices.push(Events { events, cancel });
    }
    if !way.teacher {
        // Rendering, tokenising, a grammar, or an adapter that has to be read first: the others on
        // this thread do not wait for it.
        block_in_place(|| gateway.student.submit_all(submitted))?;
        return Ok(choices);
    }
    let teacher: Arc<dyn Backend> = gateway.teacher.clone().ok_or(InferenceError::NoTeacher)?;
    // If one is refused, the receivers of those before it go away, which cancels them.
    lengthy(bytes, || {
        submitted.into_iter().try_for_each(|(request, sink)| teacher.submit(request, sink))
    })?;
    Ok(choices)
}
