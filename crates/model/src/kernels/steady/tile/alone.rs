//! The loop over rows that each have a right side of their own, in 512-bit registers.

#![expect(unsafe_code, reason = "fused multiply-add is reached through intrinsics over pointers")]

use std::arch::x86_64::{
    _MM_HINT_T0, _mm_prefetch, _mm512_add_ps, _mm512_fmadd_ps, _mm512_mask_storeu_ps,
    _mm512_maskz_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps,
};

use super::{
    super::super::{columns::Columns, gemm::Into},
    WIDTH, Weight,
    avx512::AHEAD,
};

/// All panels of some rows of one shape. The caller has checked for the instructions.
pub(super) fn rows<T: Weight, const G: usize>(
    (x, w): ([&[f32]; G], [&[T]; G]),
    panel: usize,
    (c, rows): (&mut Columns<'_>, [usize; G]),
    into: Into,
) {
    let (depth, width) = (x.first().map_or(0, |x| x.len()), c.width);
    assert!((1..=WIDTH).contains(&panel), "a panel wider than its registers");
    assert!(x.iter().all(|x| x.len() == depth), "rows of different lengths");
    assert!(w.iter().all(|w| w.len() == depth * width), "a right side of unfit shape");
    let (x, w) = (x.map(<[f32]>::as_ptr), w.map(<[T]>::as_ptr));
    let out = rows.map(|row| c.pointer(row));
    // SAFETY: the caller says that the instructions are there; the rest has just been checked.
    unsafe { panels::<T, G>(x, w, out, (depth, width, panel), into == Into::Add) };
}

/// # Safety
///
/// The processor has what `avx512::is_supported` asks for; every `x` has `depth` values, every `w`
/// `depth · width`, every `out` `width`, and a panel is as wide as a tile at most.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn panels<T: Weight, const G: usize>(
    x: [*const f32; G],
    w: [*const T; G],
    out: [*mut f32; G],
    (depth, width, panel): (usize, usize, usize),
    add: bool,
) {
    for first in (0..width).step_by(panel) {
        let cols = panel.min(width - first);
        let w = w.map(|w| w.wrapping_add(first * depth));
        let out = out.map(|out| out.wrapping_add(first));
        // SAFETY: the panel's rows lie one after another behind those of the panels before it.
        unsafe {
            match cols.div_ceil(16) {
                1 => tile::<T, G, 1>(x, w, out, (depth, cols), add),
                2 => tile::<T, G, 2>(x, w, out, (depth, cols), add),
                3 => tile::<T, G, 3>(x, w, out, (depth, cols), add),
                _ => tile::<T, G, 4>(x, w, out, (depth, cols), add),
            }
        }
    }
}

/// # Safety
///
/// As for [`panels`], of one panel of `cols` ≤ 16 · V columns.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn tile<T: Weight, const G: usize, const V: usize>(
    x: [*const f32; G],
    w: [*const T; G],
    out: [*mut f32; G],
    (depth, cols): (usize, usize),
    add: bool,
) {
    let last = ((1_u32 << (cols - 16 * (V - 1))) - 1) as u16;
    let mask = |vector: usize| if vector + 1 == V { last } else { u16::MAX };
    let mut sums = [[_mm512_setzero_ps(); V]; G];
    for k in 0..depth {
        for row in 0..G {
            let from = w[row].wrapping_add(k * cols);
            // SAFETY: k is below depth; the mask leaves only columns that the panel has. A prefetch
            // may name any place.
            unsafe {
                let x = _mm512_set1_ps(*x[row].add(k));
                for (vector, sum) in sums[row].iter_mut().enumerate() {
                    let from = from.wrapping_add(16 * vector);
                    _mm_prefetch::<_MM_HINT_T0>(from.wrapping_byte_add(AHEAD).cast());
                    *sum = _mm512_fmadd_ps(x, T::load(from, mask(vector)), *sum);
                }
            }
        }
    }
    for (out, sums) in out.into_iter().zip(sums) {
        for (vector, sum) in sums.into_iter().enumerate() {
            let (to, mask) = (out.wrapping_add(16 * vector), mask(vector));
            // SAFETY: the mask leaves only columns that `out` has.
            unsafe {
                let old = if add { _mm512_maskz_loadu_ps(mask, to) } else { _mm512_setzero_ps() };
                _mm512_mask_storeu_ps(to, mask, _mm512_add_ps(old, sum));
            }
        }
    }
}
