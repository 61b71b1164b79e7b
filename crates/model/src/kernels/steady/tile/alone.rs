//! The loop over runs of a few rows that each have a right side of their own, in 512-bit registers.

#![expect(unsafe_code, reason = "fused multiply-add is reached through intrinsics over pointers")]

use std::{
    arch::x86_64::{
        _MM_HINT_T0, _mm_prefetch, _mm512_add_ps, _mm512_fmadd_ps, _mm512_mask_storeu_ps,
        _mm512_maskz_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps,
    },
    array,
    ops::Range,
};

use super::{
    super::{
        super::{columns::Columns, gemm::Into},
        Rows,
    },
    WIDTH, Weight,
    avx512::AHEAD,
};

/// Sums that are held at once at most; what is left of the registers is for weights and values.
const SUMS: usize = 24;

/// All panels of some runs of one shape. The caller has checked for the instructions.
pub(super) fn runs<T: Weight, const G: usize, const R: usize>(
    (x, w): ([Rows<'_>; G], [&[T]; G]),
    panel: usize,
    (c, places): (&mut Columns<'_>, [Range<usize>; G]),
    into: Into,
) {
    let (depth, width) = (x.first().map_or(0, |x| x.width), c.width);
    assert!((1..=WIDTH).contains(&panel), "a panel wider than its registers");
    assert!(x.iter().all(|x| x.width == depth), "rows of different lengths");
    assert!(w.iter().all(|w| w.len() == depth * width), "a right side of unfit shape");
    assert!(places.iter().all(|rows| (1..=R).contains(&rows.len())), "a run of unfit height");
    // A run with fewer rows than the tallest takes its last one again, and drops the sums.
    let of_row = |run: usize, row: usize| row.min(places[run].len() - 1);
    let given: Given<T, G, R> = Given {
        x: array::from_fn(|run| array::from_fn(|row| x[run].row(of_row(run, row)).as_ptr())),
        w: w.map(<[T]>::as_ptr),
        out: array::from_fn(|run| {
            array::from_fn(|row| c.pointer(places[run].start + of_row(run, row)))
        }),
        heights: array::from_fn(|run| places[run].len()),
    };
    // SAFETY: the caller says that the instructions are there; the rest has just been checked.
    unsafe { panels(&given, (depth, width, panel), into == Into::Add) };
}

/// G runs of up to R rows.
struct Given<T, const G: usize, const R: usize> {
    x: [[*const f32; R]; G],
    w: [*const T; G],
    out: [[*mut f32; R]; G],
    /// Rows of every run that are its own.
    heights: [usize; G],
}

/// # Safety
///
/// The processor has what `avx512::is_supported` asks for; every `x` has `depth` values, every `w`
/// `depth · width`, every `out` `width`, and a panel is as wide as a tile at most.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn panels<T: Weight, const G: usize, const R: usize>(
    given: &Given<T, G, R>,
    (depth, width, panel): (usize, usize, usize),
    add: bool,
) {
    let widest = 16 * (SUMS / (G * R)).clamp(1, 4);
    for first in (0..width).step_by(panel) {
        let cols = panel.min(width - first);
        for start in (0..cols).step_by(widest) {
            let taken = widest.min(cols - start);
            let w = given.w.map(|w| w.wrapping_add(first * depth + start));
            let out = given.out.map(|rows| rows.map(|out| out.wrapping_add(first + start)));
            let part = Given { w, out, ..*given };
            // SAFETY: the panel's rows lie one after another behind those of the panels before it.
            unsafe {
                match taken.div_ceil(16) {
                    1 => tile::<T, G, R, 1>(&part, (depth, cols, taken), add),
                    2 => tile::<T, G, R, 2>(&part, (depth, cols, taken), add),
                    3 => tile::<T, G, R, 3>(&part, (depth, cols, taken), add),
                    _ => tile::<T, G, R, 4>(&part, (depth, cols, taken), add),
                }
            }
        }
    }
}

/// # Safety
///
/// As for [`panels`], of `taken` ≤ 16 · V columns of one panel of `cols`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn tile<T: Weight, const G: usize, const R: usize, const V: usize>(
    given: &Given<T, G, R>,
    (depth, cols, taken): (usize, usize, usize),
    add: bool,
) {
    let (x, w) = (given.x, given.w);
    let last = ((1_u32 << (taken - 16 * (V - 1))) - 1) as u16;
    let mask = |vector: usize| if vector + 1 == V { last } else { u16::MAX };
    let mut sums = [[[_mm512_setzero_ps(); R]; V]; G];
    for k in 0..depth {
        for run in 0..G {
            let from = w[run].wrapping_add(k * cols);
            for (vector, sums) in sums[run].iter_mut().enumerate() {
                let from = from.wrapping_add(16 * vector);
                // SAFETY: k is below depth; the mask leaves only columns that the panel has. A
                // prefetch may name any place.
                unsafe {
                    _mm_prefetch::<_MM_HINT_T0>(from.wrapping_byte_add(AHEAD).cast());
                    let w = T::load(from, mask(vector));
                    for (x, sum) in x[run].iter().zip(sums) {
                        *sum = _mm512_fmadd_ps(_mm512_set1_ps(*x.add(k)), w, *sum);
                    }
                }
            }
        }
    }
    for (run, sums) in sums.into_iter().enumerate() {
        for (vector, sums) in sums.into_iter().enumerate() {
            for (out, sum) in given.out[run].into_iter().zip(sums).take(given.heights[run]) {
                let (to, mask) = (out.wrapping_add(16 * vector), mask(vector));
                // SAFETY: the mask leaves only columns that `out` has.
                unsafe {
                    let old =
                        if add { _mm512_maskz_loadu_ps(mask, to) } else { _mm512_setzero_ps() };
                    _mm512_mask_storeu_ps(to, mask, _mm512_add_ps(old, sum));
                }
            }
        }
    }
}
