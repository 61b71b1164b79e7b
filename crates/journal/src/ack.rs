//! The promise that something queued will be durable, and its two ends.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError, mpsc},
};

use crate::JournalError;

/// Where a record ended up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    pub seq: u64,
    /// It was there already: the same id with the same content.
    pub duplicate: bool,
}

type Answer = Result<Appended, JournalError>;
type Listener = Box<dyn FnOnce(Answer) + Send>;

/// A promise of durability. Dropping it does not undo the append.
pub struct Ack {
    state: Arc<Mutex<State>>,
}

enum State {
    Waiting(Option<Listener>),
    Answered(Answer),
}

impl Ack {
    /// Calls `then` once the record is durable or refused. It runs on the writer's thread, so it
    /// must hand the answer over and return: everything behind it waits.
    pub fn on_commit(self, then: impl FnOnce(Answer) + Send + 'static) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *state {
            State::Waiting(listener) => *listener = Some(Box::new(then)),
            State::Answered(answer) => {
                let answer = answer.clone();
                drop(state);
                then(answer);
            }
        }
    }

    /// Blocks until the record is durable or refused.
    pub fn wait(self) -> Answer {
        let (sender, receiver) = mpsc::channel();
        self.on_commit(move |answer| {
            // The receiver below lives until it has an answer.
            sender.send(answer).ok();
        });
        receiver.recv().unwrap_or(Err(JournalError::Closed))
    }
}

impl fmt::Debug for Ack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ack")
    }
}

/// The writing end of an [`Ack`]; dropped without an answer, it says the journal is closed.
pub(crate) struct Promise {
    state: Arc<Mutex<State>>,
}

impl Promise {
    pub(crate) fn new() -> (Self, Ack) {
        let state = Arc::new(Mutex::new(State::Waiting(None)));
        (Self { state: Arc::clone(&state) }, Ack { state })
    }

    pub(crate) fn keep(self, answer: Answer) {
        self.answer(answer);
    }

    fn answer(&self, answer: Answer) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State::Waiting(listener) = &mut *state else { return };
        let listener = listener.take();
        *state = State::Answered(answer.clone());
        drop(state);
        if let Some(listener) = listener {
            // One caller's mistake must not end the only thread that writes. The panic has been
            // reported by its hook, and the record is as durable as the answer says.
            catch_unwind(AssertUnwindSafe(|| listener(answer))).ok();
        }
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.answer(Err(JournalError::Closed));
    }
}
