//! One buffer that is used again.
//!
//! A server that swaps adapters reads one of twenty megabytes, lets go of another, and reads the
//! next. Memory that has just been given back to the system is cleared and mapped anew, four
//! kilobytes at a time, which takes longer than to read the file.

use std::{
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Bytes of a buffer worth keeping.
const LEAST: usize = 1 << 20;

/// And of one that is too large to be kept for nothing.
const MOST: usize = 64 << 20;

pub(crate) struct Spare<T>(Mutex<Vec<T>>);

impl<T> Spare<T> {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// An empty buffer with room for as many values: the one that is kept, if it fits and does not
    /// waste a quarter of itself.
    pub(crate) fn take(&self, len: usize) -> Vec<T> {
        let mut kept = self.lock();
        let capacity = kept.capacity();
        if capacity >= len && capacity - len <= len / 4 {
            return mem::take(&mut kept);
        }
        drop(kept);
        Vec::with_capacity(len)
    }

    /// Keeps a buffer for the next one who takes.
    pub(crate) fn give(&self, mut buffer: Vec<T>) {
        buffer.clear();
        let bytes = buffer.capacity() * size_of::<T>();
        if (LEAST..=MOST).contains(&bytes) {
            let before = mem::replace(&mut *self.lock(), buffer);
            // Freed without the lock.
            drop(before);
        }
    }

    /// A buffer is put there or taken away whole.
    fn lock(&self) -> MutexGuard<'_, Vec<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: usize = LEAST / size_of::<f32>();

    #[test]
    fn a_buffer_comes_back_empty_to_one_whom_it_fits() {
        let spare = Spare::new();
        let buffer = vec![1.0_f32; LEN];
        let place = buffer.as_ptr();
        spare.give(buffer);
        for unfit in [LEN + 1, LEN / 2] {
            let other = spare.take(unfit);
            assert!(other.capacity() >= unfit && other.as_ptr() != place);
        }
        let again = spare.take(LEN - 10);
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
        let other = spare.take(LEN);
        assert_ne!(other.as_ptr(), place, "it has been taken");
    }

    #[test]
    fn the_small_and_the_huge_are_not_kept() {
        let spare = Spare::new();
        spare.give(vec![0_u8; LEAST - 1]);
        // Untouched memory is only address space.
        spare.give(Vec::<u8>::with_capacity(MOST + 1));
        assert_eq!(spare.lock().capacity(), 0);
        spare.give(vec![0_u8; LEAST]);
        spare.give(vec![0_u8; 2 * LEAST]);
        assert_eq!(spare.lock().capacity(), 2 * LEAST, "one, the last");
    }
}
