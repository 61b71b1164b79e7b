//! The promise that something queued will be durable, and its two ends.

use std::{
    fmt, mem,
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
    is_spooled: bool,
}

/// Whoever listens does so once, for one of two things.
enum State {
    Waiting,
    WaitingToBeWritten(Listener),
    WaitingToBeDurable(Listener),
    Written(Appended),
    Answered(Answer),
}

impl Ack {
    /// Whether it survives the end of this process already, without having been written.
    pub fn is_spooled(&self) -> bool {
        self.is_spooled
    }

    pub(crate) fn spooled(self, is_spooled: bool) -> Self {
        Self { is_spooled, ..self }
    }

    /// Calls `then` once the record is written or refused: from then on it survives the end of this
    /// process, but not yet a power failure. It runs on the writer's thread, so it must hand the
    /// answer over and return: everything behind it waits.
    pub fn on_written(self, then: impl FnOnce(Answer) + Send + 'static) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = match &*state {
            State::Written(appended) => Ok(*appended),
            State::Answered(answer) => answer.clone(),
            State::Waiting | State::WaitingToBeWritten(_) | State::WaitingToBeDurable(_) => {
                *state = State::WaitingToBeWritten(Box::new(then));
                return;
            }
        };
        drop(state);
        then(answer);
    }

    /// Calls `then` once the record is durable or refused. It runs on the thread that flushes, so
    /// it must hand the answer over and return: everything behind it waits.
    pub fn on_durable(self, then: impl FnOnce(Answer) + Send + 'static) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Answered(answer) = &*state {
            let answer = answer.clone();
            drop(state);
            return then(answer);
        }
        *state = State::WaitingToBeDurable(Box::new(then));
    }

    /// Blocks until the record is durable or refused.
    pub fn wait(self) -> Answer {
        let (sender, receiver) = mpsc::channel();
        self.on_durable(move |answer| {
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
        let state = Arc::new(Mutex::new(State::Waiting));
        (Self { state: Arc::clone(&state) }, Ack { state, is_spooled: false })
    }

    /// The record is committed, and will be durable.
    pub(crate) fn written(&self, appended: Appended) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match mem::replace(&mut *state, State::Written(appended)) {
            State::WaitingToBeWritten(listener) => {
                drop(state);
                tell(listener, Ok(appended));
            }
            // Not yet what it waits for.
            waiting @ State::WaitingToBeDurable(_) => *state = waiting,
            State::Waiting | State::Written(_) | State::Answered(_) => {}
        }
    }

    pub(crate) fn keep(self, answer: Answer) {
        self.answer(answer);
    }

    fn answer(&self, answer: Answer) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, State::Answered(_)) {
            return;
        }
        let before = mem::replace(&mut *state, State::Answered(answer.clone()));
        drop(state);
        if let State::WaitingToBeWritten(listener) | State::WaitingToBeDurable(listener) = before {
            tell(listener, answer);
        }
    }
}

/// One caller's mistake must not end a thread that everybody needs. The panic has been reported by
/// its hook, and the record is as safe as the answer says.
fn tell(listener: Listener, answer: Answer) {
    catch_unwind(AssertUnwindSafe(|| listener(answer))).ok();
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.answer(Err(JournalError::Closed));
    }
}
