//! Between a backend's thread and an async reply: forwards events, records the exchange, and tells
//! the client it is over only once that is recorded. Who else answers when the first one fails,
//! or should not have the last word, is in `turns.rs`.

mod said;
mod submit;
mod turns;

use std::{sync::Arc, time::Instant};

use axum::http::HeaderMap;
use tokio::sync::{mpsc, oneshot};
use understudy_inference::{Completion, Delta, Event, GenerateRequest, InferenceError, Served};
use understudy_journal::JournalError;
use understudy_openai::ReplyHead;
use understudy_trajectory::Step;

use self::{
    said::{Hold, Said},
    turns::{Turn, Turns},
};
pub(crate) use self::{
    submit::{Events, submit},
    turns::{Draft, reason},
};
use crate::{
    beside,
    error::ApiError,
    exchange::Exchange,
    lengthy::lengthy,
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
    Started(Box<Opening>),
    Delta(usize, Delta),
    Done(usize, Box<Completion>),
    Failed(ApiError),
}

/// Who answers, after whatever turns it took to find somebody.
#[derive(Debug, Clone)]
pub(crate) struct Opening {
    pub(crate) exchange: Exchange,
    pub(crate) served: Served,
}

impl Opening {
    pub(crate) fn head(&self) -> ReplyHead {
        self.exchange.head(&self.served)
    }

    pub(crate) fn headers(&self) -> HeaderMap {
        self.exchange.headers(Some(&self.served))
    }
}

/// What a generation ended in; an error of `None` is a client that went away.
pub(crate) type Ending = Result<Box<Completion>, Option<InferenceError>>;

/// Starts one generation per choice, with whoever takes them: the exchange comes back as it was
/// routed in the end. Dropping the receiver cancels them; what was said until then is recorded.
pub(crate) fn start(
    gateway: &Gateway,
    exchange: Exchange,
    requests: Vec<GenerateRequest>,
) -> Result<(Exchange, mpsc::Receiver<Part>), ApiError> {
    if gateway.is_draining() {
        return Err(InferenceError::ShuttingDown.into());
    }
    let (parts_in, parts) = mpsc::channel(WAITING_PARTS);
    let of_each = exchange.ask.n;
    let prompts = requests.len().div_ceil(of_each as usize);
    let siblings: Vec<_> = (0..prompts).map(|_| Arc::new(Siblings::new(of_each))).collect();
    let watches: Vec<Watch> = requests
        .iter()
        .enumerate()
        .map(|(choice, request)| {
            Watch::start(request, Arc::clone(&siblings[choice / of_each as usize]))
        })
        .collect();
    let (exchange, choices) = turns::open(gateway, exchange, requests)
        .inspect_err(|error| gateway.metrics().refused(error))?;
    gateway.metrics().accepted(of_each);
    let lone = choices.len() == 1;
    for (choice, (events, watch)) in choices.into_iter().zip(watches).enumerate() {
        let line = Line {
            gateway: gateway.clone(),
            turns: Turns::of(&exchange, lone),
            exchange: exchange.clone(),
            choice,
            begun: Instant::now(),
        };
        tokio::spawn(line.relay(events, parts_in.clone(), watch));
    }
    Ok((exchange, parts))
}

/// One choice on its way.
struct Line {
    gateway: Gateway,
    exchange: Exchange,
    choice: usize,
    turns: Turns,
    begun: Instant,
}

impl Line {
    async fn relay(mut self, mut events: Events, parts: mpsc::Sender<Part>, mut watch: Watch) {
        let mut said = Said::new(self.turns.hold());
        let mut before = None;
        let last = loop {
            let last = self.listen(&mut events, &parts, &mut said, &mut watch).await;
            // Whoever is still making tokens for this can stop.
            events.close();
            match self.turn(last, &said) {
                Turn::Over(last) => break last,
                Turn::Another(next) => {
                    events = next;
                    before = Some(std::mem::replace(&mut said, Said::new(self.turns.hold())));
                }
            }
        };
        if let Ok(completion) = &last
            && !said.is_of(completion)
        {
            // The one before has the last word after all: nobody has been told anything else.
            said = before.filter(|before| before.is_of(completion)).unwrap_or_default();
            said.settle(completion);
        }
        self.gateway.metrics().ended(&watch, &self.exchange.routing, said.served(), &last);
        self.finish(last, said, &parts).await;
    }

    /// Until this generation is over, or nobody wants it any more.
    async fn listen(
        &self,
        events: &mut Events,
        parts: &mpsc::Sender<Part>,
        said: &mut Said,
        watch: &mut Watch,
    ) -> Ending {
        loop {
            let event = tokio::select! {
                event = events.recv() => event,
                permit = parts.reserve(), if said.is_waiting() => {
                    // A closed channel is noticed by `closed` at the next turn.
                    if let (Ok(permit), Some(part)) = (permit, said.next(&self.exchange, self.choice)) {
                        permit.send(part);
                    }
                    continue;
                }
                () = parts.closed() => return Err(None),
            };
            match event {
                Some(Event::Started(served)) => {
                    watch.begun();
                    said.start(served);
                }
                Some(Event::Delta(delta)) => {
                    watch.delta(&delta);
                    said.add(delta);
                }
                Some(Event::Finished(completion)) => return Ok(completion),
                Some(Event::Failed(error)) => return Err(Some(error)),
                None => return Err(Some(InferenceError::ShuttingDown)),
            }
        }
    }

    /// Records what came of it and tells the client, in this order.
    async fn finish(self, last: Ending, mut said: Said, parts: &mpsc::Sender<Part>) {
        let finished = Instant::now();
        let (step, part) = self.ending(last, &said);
        let told = step.as_ref().filter(|step| step.error.is_none());
        let told =
            told.filter(|_| beside::may_follow(&self.exchange)).map(|step| step.reply.clone());
        let part = match step {
            None => part,
            Some(step) => {
                let recorded = record(&self.gateway, step, self.exchange.bytes).await;
                recorded.map_or_else(Part::Failed, |()| part)
            }
        };
        if matches!(part, Part::Done(..)) {
            if let Some(told) = told {
                beside::after(&self.gateway, &self.exchange, self.choice, told);
            }
            if let Some(draft) = &self.turns.draft {
                beside::keep_draft(&self.gateway, &self.exchange, draft);
            }
        }
        self.gateway.metrics().overhead(&self.exchange, self.begun, finished);
        said.release();
        while let Some(waiting) = said.next(&self.exchange, self.choice) {
            // Nobody listens any more: there is nothing left to do but end.
            if parts.send(waiting).await.is_err() {
                return;
            }
        }
        parts.send(part).await.ok();
    }

    fn ending(&self, last: Ending, said: &Said) -> (Option<Step>, Part) {
        let broken =
            |why| self.exchange.broken(self.choice, said.text(), said.served().cloned(), why);
        match last {
            Ok(completion) => {
                let step = self.exchange.finished(self.choice, &completion);
                let step = step.map(|step| self.turns.timed(step));
                (step, Part::Done(self.choice, completion))
            }
            Err(Some(error)) => (broken(error.to_string()), Part::Failed(self.refusal(error))),
            Err(None) => {
                let why = "the client went away";
                let step = broken(why.to_owned()).map(|step| self.left(step));
                (step, Part::Failed(ApiError::internal(why)))
            }
        }
    }

    /// Who was being waited for has not failed, however long it was.
    fn left(&self, mut step: Step) -> Step {
        step.timing.total_ms = self.exchange.opened.elapsed().as_secs_f64() * 1e3;
        if let Some(assignment) = &mut step.assignment {
            assignment.course.left = true;
        }
        step
    }

    /// What a client is told, with the name under which the failure is on record.
    fn refusal(&self, error: InferenceError) -> ApiError {
        let ApiError(reply) = ApiError::of_generation(error);
        ApiError(reply.of_request(self.exchange.request_id()))
    }
}

/// Journals the step, so that it survives the end of this process when this returns, or a power
/// failure where that is asked for: a disk takes milliseconds over what takes microseconds without.
async fn record(gateway: &Gateway, step: Step, bytes: usize) -> Result<(), ApiError> {
    let Some(step) = lengthy(bytes, || gateway.capture().step(step)) else { return Ok(()) };
    let id = step.id.clone();
    let arm = step.assignment.as_ref().map_or("none", |assignment| assignment.arm.as_str());
    let failed = |why: String| {
        tracing::error!(step = %id, %why, "an exchange could not be journalled");
        gateway.metrics().uncaptured(arm);
        ApiError::unavailable(format!("the exchange could not be recorded: {why}"))
    };
    let appended = lengthy(bytes, || {
        if gateway.flushes_replies() {
            gateway.journal.append_step(step)
        } else {
            gateway.journal.append_served(step)
        }
    });
    let ack = appended.map_err(|why| failed(why.to_string()))?;
    if ack.is_spooled() {
        return Ok(());
    }
    let (committed, wait) = oneshot::channel();
    let tell = move |result: Result<_, JournalError>| {
        // The waiting side goes away only at shutdown, when nobody is left to tell.
        committed.send(result.map_err(|why| why.to_string())).ok();
    };
    if gateway.flushes_replies() {
        ack.on_durable(tell);
    } else {
        ack.on_written(tell);
    }
    match wait.await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(why)) => Err(failed(why)),
        Err(_) => Err(failed("the journal is closing".to_owned())),
    }
}
