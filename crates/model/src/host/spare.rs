//! Buffers that are used again.
//!
//! A server that swaps adapters reads one of twenty megabytes, lets go of another, and reads the
//! next. Memory that has just been given back to the system is cleared and mapped anew, four
//! kilobytes at a time, which takes longer than to read the file.

use std::sync::{Mutex, MutexGuard, PoisonError};

use half::{f16, vec::HalfBitsVecExt as _};

/// Bytes of a buffer worth keeping.
const LEAST: usize = 1 << 20;

/// And of one that is too large to be kept for nothing.
const MOST: usize = 64 << 20;

/// Buffers kept. Those of a server that swaps are let go of when requests end, sometimes two at once.
const KEPT: usize = 2;

pub(crate) struct Spare<T>(Mutex<Vec<Vec<T>>>);

impl<T: Zero> Spare<T> {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// `len` values left over from whoever had them before; the caller writes every one of them. They
    /// lie in a buffer that is kept, if one fits and does not waste a quarter of itself.
    pub(crate) fn take(&self, len: usize) -> Vec<T> {
        let mut kept = self.lock();
        let fits = |buffer: &Vec<T>| (len..=len + len / 4).contains(&buffer.capacity());
        let found = kept.iter().position(fits).map(|index| kept.swap_remove(index));
        drop(kept);
        let Some(mut buffer) = found else { return T::zeros(len) };
        buffer.resize(len, T::default());
        buffer
    }

    /// Keeps a buffer for the next one who takes.
    pub(crate) fn give(&self, buffer: Vec<T>) {
        let bytes = buffer.capacity() * size_of::<T>();
        if (LEAST..=MOST).contains(&bytes) {
            let mut kept = self.lock();
            let before = (kept.len() == KEPT).then(|| kept.remove(0));
            kept.push(buffer);
            drop(kept);
            // Freed without the lock.
            drop(before);
        }
    }

    /// Buffers are put there or taken away whole.
    fn lock(&self) -> MutexGuard<'_, Vec<Vec<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Numbers of which the system gives zeros that cost nothing before they are written.
pub(crate) trait Zero: Copy + Default {
    fn zeros(len: usize) -> Vec<Self>;
}

impl Zero for u8 {
    fn zeros(len: usize) -> Vec<Self> {
        vec![0; len]
    }
}

impl Zero for f32 {
    fn zeros(len: usize) -> Vec<Self> {
        vec![0.0; len]
    }
}

impl Zero for f16 {
    fn zeros(len: usize) -> Vec<Self> {
        vec![0_u16; len].reinterpret_into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: usize = LEAST / size_of::<f32>();

    #[test]
    fn a_buffer_comes_back_to_one_whom_it_fits() {
        let spare = Spare::new();
        let buffer = vec![1.0_f32; LEN];
        let place = buffer.as_ptr();
        spare.give(vec![2.0_f32; 9 * LEN]);
        spare.give(buffer);
        for unfit in [LEN + 1, LEN / 2] {
            let other = spare.take(unfit);
            assert!(other.len() == unfit && other.as_ptr() != place);
        }
        let again = spare.take(LEN - 10);
        assert_eq!((again.as_ptr(), again.len()), (place, LEN - 10));
        let other = spare.take(LEN);
        assert_ne!(other.as_ptr(), place, "it has been taken");
        assert_eq!(Spare::<f16>::new().take(3), [f16::ZERO; 3]);
    }

    #[test]
    fn the_small_and_the_huge_and_all_but_the_last_are_not_kept() {
        let spare = Spare::new();
        spare.give(vec![0_u8; LEAST - 1]);
        // Untouched memory is only address space.
        spare.give(Vec::<u8>::with_capacity(MOST + 1));
        assert!(spare.lock().is_empty());
        for size in [LEAST, 2 * LEAST, 3 * LEAST] {
            spare.give(vec![0_u8; size]);
        }
        let kept: Vec<usize> = spare.lock().iter().map(Vec::capacity).collect();
        assert_eq!(kept, [2 * LEAST, 3 * LEAST]);
    }
}
