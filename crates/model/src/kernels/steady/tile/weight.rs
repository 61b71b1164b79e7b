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
use crate::host::{Spare, Zero};

/// A number that is multiplied in f32.
pub(crate) trait Weight: Zero + Send + Sync + Debug + 'static {
    fn wide(self) -> f32;

    /// Rounds values to nearest, as many as there are places. False when one of them is beyond the
    /// largest it holds.
    fn round(values: &[f32], to: &mut [Self]) -> bool;

    /// What adapters that nobody serves any more leave of such numbers.
    fn spare() -> &'static Spare<Self>;

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

    fn round(values: &[f32], to: &mut [Self]) -> bool {
        to.copy_from_slice(values);
        true
    }

    fn spare() -> &'static Spare<Self> {
        static SPARE: Spare<f32> = Spare::new();
        &SPARE
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

    fn round(values: &[f32], to: &mut [Self]) -> bool {
        to.convert_from_f32_slice(values);
        // Counted, which takes several values at a time, and not searched for.
        to.iter().map(|value| u32::from(value.is_infinite())).sum::<u32>() == 0
    }

    fn spare() -> &'static Spare<Self> {
        static SPARE: Spare<f16> = Spare::new();
        &SPARE
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
