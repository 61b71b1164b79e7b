//! Waiting for content to be read: how long one does, and how many may.

use std::{
    sync::{
        Condvar, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use understudy_inference::InferenceError;

/// How long somebody waits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    since: Instant,
    most: Option<Duration>,
}

impl Patience {
    pub(crate) fn new(since: Instant, most: Option<Duration>) -> Self {
        Self { since, most }
    }

    pub(crate) fn endless() -> Self {
        Self::new(Instant::now(), None)
    }

    /// Waits until told, for no reason, or until it is over, which is an error.
    pub(crate) fn wait<'a, T>(
        self,
        told: &Condvar,
        guard: MutexGuard<'a, T>,
    ) -> Result<MutexGuard<'a, T>, InferenceError> {
        let Some(most) = self.most else {
            return Ok(told.wait(guard).unwrap_or_else(PoisonError::into_inner));
        };
        let left = most.saturating_sub(self.since.elapsed());
        if left.is_zero() {
            return Err(InferenceError::TimedOut(most.as_millis() as u64));
        }
        Ok(told.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0)
    }
}

/// Counts those who wait, each of whom holds a thread of whoever asked.
#[derive(Debug, Default)]
pub(crate) struct Crowd(AtomicUsize);

impl Crowd {
    /// A place among so many, until it is dropped.
    pub(crate) fn enter(&self, most: usize) -> Result<InCrowd<'_>, InferenceError> {
        let more = |waiting| (waiting < most).then_some(waiting + 1);
        match self.0.fetch_update(Relaxed, Relaxed, more) {
            Ok(_) => Ok(InCrowd(self)),
            Err(waiting) => Err(InferenceError::Busy(waiting)),
        }
    }

    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.0.load(Relaxed)
    }
}

#[derive(Debug)]
pub(crate) struct InCrowd<'a>(&'a Crowd);

impl Drop for InCrowd<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}
