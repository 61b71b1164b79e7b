//! Buffers that are used again.
//!
//! A training step needs gigabytes of them in the same sizes as the step before. Taken fresh from
//! the system, every page of them is cleared and mapped again, and because a step may run on
//! another thread than the last, the allocator may hold all of them twice.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use half::f16;

use super::Zero;

/// Shorter buffers are the allocator's business.
const LEAST: usize = 1 << 16;

/// A buffer not wanted while this many others came back is freed: a training step or two.
const PATIENCE: u64 = 1024;

/// Values kept at most, 768 MiB of f32: what a step over some thousand tokens of a small model
/// keeps for its backward pass. Batches of changing sizes leave buffers behind that fit
/// none of the next ones, and those must not add up.
const MOST: usize = 192 << 20;

/// Numbers whose buffers are used again.
pub(crate) trait Pooled: Zero + 'static {
    #[doc(hidden)]
    fn pool() -> &'static Mutex<Pool<Self>>;
}

impl Pooled for f32 {
    fn pool() -> &'static Mutex<Pool<Self>> {
        static POOL: Mutex<Pool<f32>> = Mutex::new(Pool::new());
        &POOL
    }
}

impl Pooled for f16 {
    fn pool() -> &'static Mutex<Pool<Self>> {
        static POOL: Mutex<Pool<f16>> = Mutex::new(Pool::new());
        &POOL
    }
}

pub(crate) struct Pool<T> {
    /// By the time they came back, with that time counted in returns.
    idle: VecDeque<(u64, Vec<T>)>,
    returns: u64,
    /// Values of all idle buffers.
    held: usize,
}

impl<T> Pool<T> {
    const fn new() -> Self {
        Self { idle: VecDeque::new(), returns: 0, held: 0 }
    }

    /// The idle buffer that `len` values fill best, if it does not waste a quarter of itself.
    fn take(&mut self, len: usize) -> Option<Vec<T>> {
        let fits = |capacity: usize| capacity >= len && capacity - len <= len / 4;
        let (index, _) = self
            .idle
            .iter()
            .enumerate()
            .filter(|(_, (_, buffer))| fits(buffer.capacity()))
            .min_by_key(|(_, (_, buffer))| buffer.capacity())?;
        let (_, buffer) = self.idle.remove(index)?;
        self.held -= buffer.capacity();
        Some(buffer)
    }

    fn give(&mut self, buffer: Vec<T>) {
        self.returns += 1;
        self.held += buffer.capacity();
        self.idle.push_back((self.returns, buffer));
        let (now, held) = (self.returns, &mut self.held);
        while let Some((since, oldest)) = self.idle.front()
            && (now - since > PATIENCE || *held > MOST)
        {
            *held -= oldest.capacity();
            self.idle.pop_front();
        }
    }
}

/// `len` values left over from whoever had them before; the caller writes every one of them.
pub(crate) fn scratch<T: Pooled>(len: usize) -> Vec<T> {
    let used = if len < LEAST { None } else { lock::<T>().take(len) };
    let Some(mut buffer) = used else { return T::zeros(len) };
    buffer.resize(len, T::default());
    buffer
}

/// Keeps a buffer for the next [`scratch`].
pub(crate) fn give<T: Pooled>(buffer: Vec<T>) {
    if buffer.len() >= LEAST {
        lock::<T>().give(buffer);
    }
}

fn lock<T: Pooled>() -> MutexGuard<'static, Pool<T>> {
    // A panic elsewhere cannot leave a list of buffers half changed in a way that matters.
    T::pool().lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> Pool<f32> {
        Pool::new()
    }

    #[test]
    fn the_tightest_buffer_is_taken_and_none_that_is_far_too_large() {
        let mut pool = pool();
        for len in [1000, 120, 110, 99] {
            pool.give(Vec::with_capacity(len));
        }
        assert_eq!(pool.take(100).unwrap().capacity(), 110);
        assert_eq!(pool.take(100).unwrap().capacity(), 120);
        assert!(pool.take(100).is_none());
    }

    #[test]
    fn buffers_nobody_wants_are_freed() {
        let mut pool = pool();
        pool.give(Vec::with_capacity(500));
        for _ in 0..PATIENCE {
            pool.give(Vec::with_capacity(10));
        }
        assert!(pool.take(500).is_some());
        pool.give(Vec::with_capacity(500));
        for _ in 0..=PATIENCE {
            pool.give(Vec::with_capacity(10));
        }
        assert!(pool.take(500).is_none());
        assert_eq!(pool.idle.len() as u64, PATIENCE + 1);
    }

    #[test]
    fn what_is_kept_stays_within_its_limit() {
        let mut pool = pool();
        // Untouched memory is only address space.
        for nth in 0..40 {
            pool.give(Vec::with_capacity((1 << 24) + nth));
            assert!(pool.held <= MOST);
            assert_eq!(pool.held, pool.idle.iter().map(|(_, b)| b.capacity()).sum::<usize>());
        }
        assert!(pool.idle.len() >= 10);
        while pool.take(1 << 24).is_some() {}
        assert_eq!((pool.held, pool.idle.len()), (0, 0));
    }
}
