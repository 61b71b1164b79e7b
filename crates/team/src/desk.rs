//! Loops of a thread that has no processor to itself, run by one that has, when it has time.
//!
//! Neither a low priority nor short turns of its own do this. Whoever shares a processor with a member
//! of the team keeps all others waiting at the end of a loop; and who wakes another thread to go to
//! sleep itself may find both on one processor, and the other idle, until the system looks again
//! milliseconds later.

#![expect(unsafe_code, reason = "a loop that borrows from its caller's stack is run by another")]

use std::{
    any::Any,
    cell::RefCell,
    mem,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{team, work::Each};

/// How long a loop waits for somebody to run it, before it is asked whether anybody will.
const LOOK: Duration = Duration::from_millis(5);

/// How long whoever runs loops waits for the next one: work does something between two of them.
const NEXT: Duration = Duration::from_micros(300);

/// Where loops are left for whoever has time for them.
#[derive(Debug, Default)]
pub struct Desk {
    state: Mutex<State>,
    changed: Condvar,
    is_closed: AtomicBool,
    /// Held by the one whose loops lie here.
    line: Mutex<()>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Empty,
    Left(Job),
    Taken,
    Done(Option<Box<dyn Any + Send>>),
}

#[derive(Debug)]
struct Job {
    each: *const Each<'static>,
    count: usize,
    /// The first index that has not been visited.
    next: usize,
}

// SAFETY: the pointer is to something `Sync`, and is only followed while it is borrowed.
unsafe impl Send for Job {}

/// Says whether anybody comes to the desk.
type IsAttended = Box<dyn Fn() -> bool>;

thread_local! {
    static HERE: RefCell<Option<(Arc<Desk>, IsAttended)>> = const { RefCell::new(None) };
}

impl Desk {
    /// Does `work` on this thread, and leaves its loops at the desk; where nobody comes to it, they
    /// are run from here.
    pub fn beside<R>(
        self: &Arc<Self>,
        is_attended: impl Fn() -> bool + 'static,
        work: impl FnOnce() -> R,
    ) -> R {
        /// Ends with the work, also when that panics.
        struct Ended;
        impl Drop for Ended {
            fn drop(&mut self) {
                HERE.take();
            }
        }
        // Nothing that a panic could leave half done.
        let _alone = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        let _ended = Ended;
        HERE.replace(Some((Arc::clone(self), Box::new(is_attended))));
        work()
    }

    /// Runs what has been left here and is left meanwhile, on all threads, for about as long as given.
    /// False when there was nothing.
    pub fn attend(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut state = self.lock();
        if !matches!(*state, State::Left(_)) {
            return false;
        }
        loop {
            if let State::Left(mut job) = mem::replace(&mut *state, State::Taken) {
                drop(state);
                // SAFETY: whoever left it waits until it is done or left again.
                let ran = catch_unwind(AssertUnwindSafe(|| unsafe { job.run(Some(until)) }));
                state = self.lock();
                *state = match ran {
                    Err(panic) => State::Done(Some(panic)),
                    Ok(()) if job.next < job.count => State::Left(job),
                    Ok(()) => State::Done(None),
                };
                self.changed.notify_all();
            }
            let left = until.saturating_duration_since(Instant::now()).min(NEXT);
            if left.is_zero() {
                return true;
            }
            let is_nothing = |state: &mut State| !matches!(state, State::Left(_));
            let waited = self.changed.wait_timeout_while(state, left, is_nothing);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if is_nothing(&mut state) {
                return true;
            }
        }
    }

    /// Nobody comes to the desk any more.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
    }

    /// Leaves a loop and waits until it has been run, or runs it where nobody does.
    fn leave(&self, count: usize, each: &Each<'_>, is_attended: &dyn Fn() -> bool) {
        // SAFETY: only the lifetime changes. The pointer is followed by whoever takes the job, and
        // this function does not return before it is done or has been taken back.
        let each = unsafe { mem::transmute::<&Each<'_>, &'static Each<'static>>(each) };
        let mut job = Job { each, count, next: 0 };
        let mut state = self.lock();
        while is_attended() && !self.is_closed.load(Ordering::Relaxed) {
            *state = State::Left(job);
            self.changed.notify_all();
            loop {
                let is_waiting = |state: &mut State| matches!(state, State::Left(_) | State::Taken);
                let waited = self.changed.wait_timeout_while(state, LOOK, is_waiting);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
                match mem::take(&mut *state) {
                    State::Done(None) => return,
                    State::Done(Some(panic)) => {
                        drop(state);
                        resume_unwind(panic);
                    }
                    State::Left(back) => {
                        job = back;
                        break;
                    }
                    // In the middle of it.
                    other => *state = other,
                }
            }
        }
        drop(state);
        // SAFETY: the loop is borrowed here.
        unsafe { job.run(None) };
    }

    /// No state is left half changed.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Job {
    /// Everybody takes indices until time is over, at least one.
    ///
    /// # Safety
    ///
    /// Whoever made the job still borrows what it points to.
    unsafe fn run(&mut self, until: Option<Instant>) {
        // SAFETY: the caller's.
        let each = unsafe { &*self.each };
        let (count, next) = (self.count, AtomicUsize::new(self.next));
        let take = |_| {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count {
                    return;
                }
                each(index);
                if until.is_some_and(|until| until <= Instant::now()) {
                    return;
                }
            }
        };
        let team = team();
        if !team.run(team.size().min(count - self.next), &take) {
            take(0);
        }
        self.next = next.into_inner().min(count);
    }
}

/// Leaves a loop at the desk beside which this thread works; false where it does not.
pub(crate) fn leave(count: usize, each: &Each<'_>) -> bool {
    // Taken away meanwhile: what the loop does on this thread, it does itself.
    let Some((desk, is_attended)) = HERE.take() else { return false };
    let left = catch_unwind(AssertUnwindSafe(|| desk.leave(count, each, &is_attended)));
    HERE.replace(Some((desk, is_attended)));
    if let Err(panic) = left {
        resume_unwind(panic);
    }
    true
}
