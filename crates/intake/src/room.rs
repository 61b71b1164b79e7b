//! How much is in memory on behalf of senders.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crate::IntakeError;

#[derive(Debug)]
pub(crate) struct Waiting {
    limit: usize,
    bytes: AtomicUsize,
}

impl Waiting {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, bytes: AtomicUsize::new(0) }
    }

    pub(crate) fn take(this: &Arc<Self>, bytes: usize) -> Result<Room, IntakeError> {
        let mut room = Room { waiting: Arc::clone(this), bytes: 0 };
        room.grow(bytes)?;
        Ok(room)
    }
}

/// Room for some bytes, given back when dropped.
#[derive(Debug)]
pub struct Room {
    waiting: Arc<Waiting>,
    bytes: usize,
}

impl Room {
    /// Takes this many bytes more.
    pub fn grow(&mut self, bytes: usize) -> Result<(), IntakeError> {
        let limit = self.waiting.limit;
        let fits = |waiting: usize| waiting.checked_add(bytes).filter(|&sum| sum <= limit);
        self.waiting
            .bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
            .map_err(|waiting| IntakeError::Full { waiting, limit })?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.waiting.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
