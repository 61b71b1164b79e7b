//! What the right side of a product is held in.

#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "sixteen values are loaded through intrinsics over pointers")
)]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m256, __m512};
use std::fmt::Debug;

use half::{f16, slice::HalfFloatSliceExt as _};

#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};

/// A number that is multiplied in f32.
pub(crate) trait Weight: Copy + Send + Sync + Debug {
    fn wide(self) -> f32;

    /// Appends values, rounded to nearest.
    fn extend(held: &mut Vec<Self>, values: &[f32]);

    /// Sixteen of them.
    ///
    /// # Safety
    ///
    /// The processor has the instructions that `avx512::is_supported` asks for, and those values lie
    /// at `from` that the mask names.
    #[cfg(target_arch = "x86_64")]
    unsafe fn load(from: *const Self, mask: u16) -> __m512;

    /// Eight of them, zeros beyond the first `lanes`.
    ///
    /// # Safety
    ///
    /// The processor has the instructions that `avx2::is_supported` asks for, and `lanes` values lie
    /// at `from`, or eight, where that is more than eight.
    #[cfg(target_arch = "x86_64")]
    unsafe fn load_eight(from: *const Self, lanes: usize) -> __m256;
}

impl Weight for f32 {
    fn wide(self) -> f32 {
        self
    }

    fn extend(held: &mut Vec<Self>, values: &[f32]) {
        held.extend_from_slice(values);
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    unsafe fn load(from: *const Self, mask: u16) -> __m512 {
        // SAFETY: the caller's.
        unsafe { avx512::load_f32(from, mask) }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    unsafe fn load_eight(from: *const Self, lanes: usize) -> __m256 {
        // SAFETY: the caller's.
        unsafe { avx2::load_f32(from, lanes) }
    }
}

impl Weight for f16 {
    fn wide(self) -> f32 {
        self.to_f32()
    }

    fn extend(held: &mut Vec<Self>, values: &[f32]) {
        let first = held.len();
        held.resize(first + values.len(), Self::ZERO);
        held[first..].convert_from_f32_slice(values);
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    unsafe fn load(from: *const Self, mask: u16) -> __m512 {
        // SAFETY: the caller's.
        unsafe { avx512::load_f16(from, mask) }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    unsafe fn load_eight(from: *const Self, lanes: usize) -> __m256 {
        // SAFETY: the caller's.
        unsafe { avx2::load_f16(from, lanes) }
    }
}
