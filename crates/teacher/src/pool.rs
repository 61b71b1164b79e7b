//! A fixed number of threads behind a bounded queue, so that blocking IO never blocks a caller.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
};

use understudy_inference::InferenceError;

use crate::TeacherError;

type Job = Box<dyn FnOnce() + Send>;

/// Dropping it returns at once: queued jobs run with [`Closing`] raised and so end immediately,
/// running ones end at their next look at it.
pub(crate) struct Pool {
    jobs: Option<SyncSender<Job>>,
    waiting: usize,
    closing: Closing,
}

/// Raised once the pool is going away.
#[derive(Debug, Clone, Default)]
pub(crate) struct Closing(Arc<AtomicBool>);

impl Closing {
    pub(crate) fn check(&self) -> Result<(), InferenceError> {
        if self.0.load(Ordering::Acquire) { Err(InferenceError::ShuttingDown) } else { Ok(()) }
    }
}

impl Pool {
    pub(crate) fn start(threads: usize, waiting: usize) -> Result<Self, TeacherError> {
        let (jobs, queue) = sync_channel(waiting);
        let queue = Arc::new(Mutex::new(queue));
        for index in 0..threads.max(1) {
            let queue = Arc::clone(&queue);
            thread::Builder::new()
                .name(format!("teacher-{index}"))
                .spawn(move || work(&queue))
                .map_err(TeacherError::Threads)?;
        }
        Ok(Self { jobs: Some(jobs), waiting, closing: Closing::default() })
    }

    pub(crate) fn closing(&self) -> Closing {
        self.closing.clone()
    }

    pub(crate) fn submit(&self, job: Job) -> Result<(), InferenceError> {
        let jobs = self.jobs.as_ref().ok_or(InferenceError::ShuttingDown)?;
        jobs.try_send(job).map_err(|refused| match refused {
            TrySendError::Full(_) => InferenceError::Busy(self.waiting),
            TrySendError::Disconnected(_) => InferenceError::ShuttingDown,
        })
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.closing.0.store(true, Ordering::Release);
        self.jobs = None;
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("waiting", &self.waiting).finish_non_exhaustive()
    }
}

fn work(queue: &Mutex<Receiver<Job>>) {
    loop {
        // The lock is held while waiting, which is fair: whoever holds it takes the next job.
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        // A sink that panics must not cost the pool a thread; its request has nobody left to tell.
        let _: thread::Result<()> = catch_unwind(AssertUnwindSafe(job));
    }
}
