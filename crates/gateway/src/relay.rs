//! Between a backend's thread and an async reply: forwards events, records the exchange, and tells
//! the client it is over only once the record is durable.

use std::{ops::ControlFlow, sync::Arc};

use tokio::sync::{mpsc, oneshot};
use understudy_inference::{
    Backend, Completion, Delta, Event, GenerateRequest, InferenceError, Served, Sink,
};
use understudy_trajectory::Step;

use crate::{
    error::ApiError,
    exchange::Exchange,
    metrics::{Siblings, Watch},
    state::Gateway,
};

/// How many parts wait for a slow reader before deltas are joined into one.
const WAITING_PARTS: usize = 8;

/// What a reply is made of: for each choice one `Started`, any number of `Delta`, then `Done`; or
/// `Failed`, after which nothing matters. Everything before a `Done` may reach the client early;
/// `Done` means journalled.
#[derive(Debug)]
pub(crate) enum Part {
    Started(Served),
    Delta(usize, Delta),
    Done(usize, Box<Completion>),
    Failed(ApiError),
}

/// Starts one generation per choice. Dropping the receiver cancels them; what was said until then
/// is recorded.
pub(crate) fn start(
    gateway: &Gateway,
    exchange: &Exchange,
    requests: Vec<GenerateRequest>,
) -> Result<mpsc::Receiver<Part>, ApiError> {
    let (parts_in, parts) = mpsc::channel(WAITING_PARTS);
    let mut choices = Vec::with_capacity(requests.len());
    let mut submitted = Vec::with_capacity(requests.len());
    let of_each = exchange.ask.n;
    let prompts = requests.len().div_ceil(of_each as usize);
    let siblings: Vec<_> = (0..prompts).map(|_| Arc::new(Siblings::new(of_each))).collect();
    for (choice, request) in requests.into_iter().enumerate() {
        // Unbounded, because a backend's thread must never wait for a slow reader. It stays short,
        // because the relay always takes from it, whether or not the reader does.
        let (events_in, events) = mpsc::unbounded_channel();
        let watch = Watch::start(&request, Arc::clone(&siblings[choice / of_each as usize]));
        let sink: Sink = Box::new(move |event| match events_in.send(event) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        });
        submitted.push((request, sink));
        choices.push((events, watch));
    }
    submit(gateway, exchange, submitted).inspect_err(|error| gateway.metrics().refused(error))?;
    gateway.metrics().accepted(exchange.ask.n);
    for (choice, (events, watch)) in choices.into_iter().enumerate() {
        let line = Line { gateway: gateway.clone(), exchange: exchange.clone(), choice };
        tokio::spawn(line.relay(events, parts_in.clone(), watch));
    }
    Ok(parts)
}

fn submit(
    gateway: &Gateway,
    exchange: &Exchange,
    requests: Vec<(GenerateRequest, Sink)>,
) -> Result<(), ApiError> {
    if !exchange.routing.teacher {
        return Ok(gateway.student.submit_all(requests)?);
    }
    let teacher: Arc<dyn Backend> = gateway.teacher.clone().ok_or_else(|| {
        ApiError::unavailable(
            "this task is routed to the teacher, but no teacher is configured; set [teacher] in \
             understudy.toml",
        )
    })?;
    // If one is refused, the receivers of those before it go away, which cancels them.
    requests.into_iter().try_for_each(|(request, sink)| Ok(teacher.submit(request, sink)?))
}

/// One choice on its way.
struct Line {
    gateway: Gateway,
    exchange: Exchange,
    choice: usize,
}

/// What has been said and what the reader has not taken yet.
#[derive(Default)]
struct Said {
    text: String,
    served: Option<Served>,
    announce: bool,
    pending: Delta,
}

impl Said {
    fn add(&mut self, delta: Delta) {
        self.text.push_str(&delta.text);
        self.pending.text.push_str(&delta.text);
        self.pending.tokens.extend(delta.tokens);
    }

    fn next(&mut self, choice: usize) -> Option<Part> {
        if self.announce {
            self.announce = false;
            return self.served.clone().map(Part::Started);
        }
        let pending = std::mem::take(&mut self.pending);
        (pending != Delta::default()).then_some(Part::Delta(choice, pending))
    }

    fn is_waiting(&self) -> bool {
        self.announce || self.pending != Delta::default()
    }
}

impl Line {
    async fn relay(
        self,
        mut events: mpsc::UnboundedReceiver<Event>,
        parts: mpsc::Sender<Part>,
        mut watch: Watch,
    ) {
        let mut said = Said::default();
        let last = loop {
            let event = tokio::select! {
                event = events.recv() => event,
                permit = parts.reserve(), if said.is_waiting() => {
                    // A closed channel is noticed by `closed` at the next turn.
                    if let (Ok(permit), Some(part)) = (permit, said.next(self.choice)) {
                        permit.send(part);
                    }
                    continue;
                }
                () = parts.closed() => break Err(None),
            };
            match event {
                Some(Event::Started(served)) => {
                    watch.begun();
                    said.served = Some(served);
                    said.announce = true;
                }
                Some(Event::Delta(delta)) => {
                    watch.delta(&delta);
                    said.add(delta);
                }
                Some(Event::Finished(completion)) => break Ok(completion),
                Some(Event::Failed(error)) => break Err(Some(error)),
                None => break Err(Some(InferenceError::ShuttingDown)),
            }
        };
        // Whoever is still making tokens for this can stop.
        drop(events);
        self.gateway.metrics().ended(&watch, &self.exchange.routing, said.served.as_ref(), &last);
        let (step, part) = self.ending(last, &said);
        let part = match step {
            None => part,
            Some(step) => record(&self.gateway, step).await.map_or_else(Part::Failed, |()| part),
        };
        while let Some(waiting) = said.next(self.choice) {
            // Nobody listens any more: there is nothing left to do but end.
            if parts.send(waiting).await.is_err() {
                return;
            }
        }
        parts.send(part).await.ok();
    }

    fn ending(
        &self,
        last: Result<Box<Completion>, Option<InferenceError>>,
        said: &Said,
    ) -> (Option<Step>, Part) {
        let broken = |why| self.exchange.broken(self.choice, &said.text, said.served.clone(), why);
        match last {
            Ok(completion) => (
                self.exchange.finished(self.choice, &completion),
                Part::Done(self.choice, completion),
            ),
            Err(Some(error)) => (broken(error.to_string()), Part::Failed(error.into())),
            Err(None) => {
                let why = "the client went away";
                (broken(why.to_owned()), Part::Failed(ApiError::internal(why)))
            }
        }
    }
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
