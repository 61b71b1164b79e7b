//! What the loops with sums in 256-bit registers share.

#![expect(unsafe_code, reason = "vector loads and stores take pointers")]

use std::arch::x86_64::{
    __m256, _mm256_add_ps, _mm256_loadu_ps, _mm256_setzero_ps, _mm256_storeu_ps,
};

/// Values of one vector.
pub(super) const LANES: usize = 8;

/// Replaces or adds to as many places as there are, of those the sums have.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn store(sums: &[__m256], to: &mut [f32], add: bool) {
    for (sum, to) in sums.iter().zip(to.chunks_mut(LANES)) {
        if let Ok(whole) = to.try_into() {
            store_whole(*sum, whole, add);
        } else {
            let mut whole = [0.0; LANES];
            whole[..to.len()].copy_from_slice(to);
            store_whole(*sum, &mut whole, add);
            to.copy_from_slice(&whole[..to.len()]);
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store_whole(sum: __m256, to: &mut [f32; LANES], add: bool) {
    // SAFETY: the array is as long as the vector, and no alignment is asked for.
    unsafe {
        let old = if add { _mm256_loadu_ps(to.as_ptr()) } else { _mm256_setzero_ps() };
        _mm256_storeu_ps(to.as_mut_ptr(), _mm256_add_ps(old, sum));
    }
}
