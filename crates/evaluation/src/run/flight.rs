//! Requests in flight on a backend that answers from its own threads.

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use understudy_inference::{Backend, Completion, Event, GenerateRequest, InferenceError, Sink};

use super::Job;

/// How often a backend that is full with other people's requests is asked again, and how often at
/// most: half a minute in all.
const BUSY_PAUSE: Duration = Duration::from_millis(50);
const BUSY_RETRIES: u32 = 600;

/// A bounded number of generations that somebody waits for; dropped, it cancels them.
pub(crate) struct Flight<'a> {
    backend: &'a dyn Backend,
    sender: Sender<Report>,
    receiver: Receiver<Report>,
    /// By ticket. A report about another ticket is of a launch that was refused.
    airborne: BTreeMap<u64, Job>,
    /// Launches that were refused for good and wait to be reported like any other.
    failed: Vec<Landing>,
    next_ticket: u64,
    refusals: u32,
    abandoned: Arc<AtomicBool>,
}

/// One generation that ended.
pub(crate) struct Landing {
    pub job: Job,
    pub outcome: Result<Completion, InferenceError>,
    pub elapsed_ms: f64,
}

struct Report {
    ticket: u64,
    outcome: Result<Completion, InferenceError>,
    elapsed_ms: f64,
}

impl<'a> Flight<'a> {
    pub(crate) fn new(backend: &'a dyn Backend) -> Self {
        let (sender, receiver) = mpsc::channel();
        Self {
            backend,
            sender,
            receiver,
            airborne: BTreeMap::new(),
            failed: Vec::new(),
            next_ticket: 0,
            refusals: 0,
            abandoned: Arc::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.airborne.len() + self.failed.len()
    }

    /// Submits a request. False when the backend is full and a request of ours is in flight, whose
    /// landing may make room.
    pub(crate) fn launch(&mut self, job: Job, request: GenerateRequest) -> bool {
        loop {
            let ticket = self.next_ticket;
            self.next_ticket += 1;
            match self.backend.submit(request.clone(), self.sink(ticket)) {
                Ok(()) => {
                    self.airborne.insert(ticket, job);
                    self.refusals = 0;
                    return true;
                }
                Err(InferenceError::Busy(_)) if !self.airborne.is_empty() => return false,
                Err(InferenceError::Busy(_)) if self.refusals < BUSY_RETRIES => {
                    self.refusals += 1;
                    thread::sleep(BUSY_PAUSE);
                }
                Err(error) => {
                    self.failed.push(Landing { job, outcome: Err(error), elapsed_ms: 0.0 });
                    return true;
                }
            }
        }
    }

    fn sink(&self, ticket: u64) -> Sink {
        let mut delivery = Delivery::new(ticket, self.sender.clone());
        let abandoned = Arc::clone(&self.abandoned);
        Box::new(move |event| match event {
            Event::Started(_) | Event::Delta(_) if abandoned.load(Ordering::Relaxed) => {
                ControlFlow::Break(())
            }
            Event::Started(_) | Event::Delta(_) => ControlFlow::Continue(()),
            Event::Finished(completion) => delivery.report(Ok(*completion)),
            Event::Failed(error) => delivery.report(Err(error)),
        })
    }

    /// Waits for the next generation to end. Something must be in flight.
    pub(crate) fn land(&mut self) -> Landing {
        if let Some(landing) = self.failed.pop() {
            return landing;
        }
        loop {
            let Report { ticket, outcome, elapsed_ms } =
                self.receiver.recv().expect("we hold a sender ourselves");
            if let Some(job) = self.airborne.remove(&ticket) {
                return Landing { job, outcome, elapsed_ms };
            }
        }
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }
}

/// Reports exactly once, also when the backend drops the request without a last event.
struct Delivery {
    ticket: u64,
    start: Instant,
    sender: Option<Sender<Report>>,
}

impl Delivery {
    fn new(ticket: u64, sender: Sender<Report>) -> Self {
        Self { ticket, start: Instant::now(), sender: Some(sender) }
    }

    fn report(&mut self, outcome: Result<Completion, InferenceError>) -> ControlFlow<()> {
        let elapsed_ms = self.start.elapsed().as_secs_f64() * 1e3;
        if let Some(sender) = self.sender.take() {
            // Nobody listens any more once the run was stopped by an error.
            sender.send(Report { ticket: self.ticket, outcome, elapsed_ms }).ok();
        }
        ControlFlow::Break(())
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        let _: ControlFlow<()> = self.report(Err(InferenceError::ShuttingDown));
    }
}
