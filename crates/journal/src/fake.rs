//! A disk for tests of whoever waits for one.

use std::{
    io,
    sync::{
        Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
};

/// Flushes when it is let, or fails to; nothing on it survives a power failure.
#[derive(Debug, Default)]
pub struct FakeDisk {
    holds: Mutex<bool>,
    let_go: Condvar,
    fails: AtomicBool,
    flushes: AtomicUsize,
}

impl FakeDisk {
    /// Stands still, or goes on.
    pub fn hold(&self, holds: bool) {
        *self.holds.lock().unwrap_or_else(PoisonError::into_inner) = holds;
        self.let_go.notify_all();
    }

    /// Whether flushes fail from now on.
    pub fn fail(&self, fails: bool) {
        self.fails.store(fails, SeqCst);
    }

    /// How often it flushed, or failed to.
    pub fn flushes(&self) -> usize {
        self.flushes.load(SeqCst)
    }

    pub(crate) fn flush(&self) -> io::Result<()> {
        let held = self.holds.lock().unwrap_or_else(PoisonError::into_inner);
        let held = self.let_go.wait_while(held, |holds| *holds);
        drop(held.unwrap_or_else(PoisonError::into_inner));
        self.flushes.fetch_add(1, SeqCst);
        if self.fails.load(SeqCst) { Err(io::Error::other("the cable is out")) } else { Ok(()) }
    }
}
