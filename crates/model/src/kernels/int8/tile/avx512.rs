//! The loop with sums in 512-bit registers, by the dot product of unsigned and signed bytes.

#![expect(unsafe_code, reason = "the instruction is reached through an intrinsic over pointers")]

use std::{
    arch::x86_64::{
        __m256i, __m512, __m512i, _MM_HINT_T0, _mm_prefetch, _mm256_loadu_si256, _mm512_add_ps,
        _mm512_and_si512, _mm512_cvtepi32_ps, _mm512_cvtph_ps, _mm512_dpbusd_epi32,
        _mm512_fmadd_ps, _mm512_load_si512, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps,
        _mm512_mul_ps, _mm512_set1_epi8, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps,
        _mm512_srli_epi16,
    },
    ptr,
};

use super::{
    super::{BLOCK, Bits, GROUPS, Panel, WIDTH, inputs::Inputs},
    Columns, Line,
};
use crate::kernels::instructions::{Instructions, allowed};

const VECTORS: usize = WIDTH / 16;

/// How many lines ahead of those being multiplied weights are called for.
const AHEAD: usize = 64;

/// Rows of a tile: with two vectors of outputs, 5 × 2 integer and 5 × 2 floating sums, weights,
/// scales and a broadcast fill the registers.
const ROWS: usize = 5;

pub(super) fn is_supported() -> bool {
    allowed(Instructions::Avx512)
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vnni")
}

/// All rows of a panel's product. The caller has checked bounds and instructions.
pub(super) fn panel(a: &Inputs, w: Panel<'_>, c: &mut Columns<'_>, add: bool) {
    for first in (0..a.rows).step_by(ROWS) {
        let rows = (a.rows - first).min(ROWS);
        // SAFETY: the caller has checked the instructions, the panel's depth and the product's
        // shape.
        unsafe {
            match (w.bits, rows) {
                (Bits::Eight, 1) => tile::<1, false>(a, first, w, c, add),
                (Bits::Eight, 2) => tile::<2, false>(a, first, w, c, add),
                (Bits::Eight, 3) => tile::<3, false>(a, first, w, c, add),
                (Bits::Eight, 4) => tile::<4, false>(a, first, w, c, add),
                (Bits::Eight, _) => tile::<ROWS, false>(a, first, w, c, add),
                (Bits::Four, 1) => tile::<1, true>(a, first, w, c, add),
                (Bits::Four, 2) => tile::<2, true>(a, first, w, c, add),
                (Bits::Four, 3) => tile::<3, true>(a, first, w, c, add),
                (Bits::Four, 4) => tile::<4, true>(a, first, w, c, add),
                (Bits::Four, _) => tile::<ROWS, true>(a, first, w, c, add),
            }
        }
    }
}

/// # Safety
///
/// `a` has R rows from `first` on; the panel has as many blocks as they; `c` has those rows and
/// at most WIDTH columns.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn tile<const R: usize, const FOUR: bool>(
    a: &Inputs,
    first: usize,
    w: Panel<'_>,
    c: &mut Columns<'_>,
    add: bool,
) {
    let mut sums = [[_mm512_setzero_ps(); VECTORS]; R];
    let lines = w.lines.chunks_exact(w.bits.lines());
    let scales = w.scales.chunks_exact(w.bits.scales() * WIDTH);
    for (block, (lines, scales)) in lines.zip(scales).enumerate() {
        for line in lines {
            _mm_prefetch::<_MM_HINT_T0>(ptr::from_ref(line).wrapping_add(AHEAD).cast());
        }
        let at: [usize; R] = std::array::from_fn(|row| (first + row) * a.blocks + block);
        let exact = products::<R, FOUR>(a, at, lines);
        let scale = widened(scales);
        let inputs = at.map(|at| _mm512_set1_ps(a.scales[at]));
        for ((sums, exact), input) in sums.iter_mut().zip(exact).zip(inputs) {
            *sums = std::array::from_fn(|vector| {
                let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(exact[vector]), input);
                _mm512_fmadd_ps(scaled, scale[vector], sums[vector])
            });
        }
        if FOUR {
            let totals = at.map(|at| _mm512_set1_ps(a.sums[at] as f32 * a.scales[at]));
            add_least(&mut sums, totals, widened(&scales[WIDTH..]));
        }
    }
    for (row, sums) in sums.into_iter().enumerate() {
        // SAFETY: `c` has the row, and no more columns than there are sums.
        unsafe { store(sums, c.pointer(first + row), c.width, add) };
    }
}

/// Σ code · code over one block, exactly, for every row and output.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn products<const R: usize, const FOUR: bool>(
    a: &Inputs,
    at: [usize; R],
    lines: &[Line],
) -> [[__m512i; VECTORS]; R] {
    // In eight bits codes are held 128 higher than they are.
    let shift = if FOUR { 0 } else { -128 };
    let mut exact = at.map(|at| [_mm512_set1_epi32(shift * a.sums[at]); VECTORS]);
    let codes: [&[[i8; 4]]; R] =
        at.map(|at| a.codes[at * BLOCK..(at + 1) * BLOCK].as_chunks::<4>().0);
    for group in 0..GROUPS {
        let weights = weights::<FOUR>(lines, group);
        for (exact, codes) in exact.iter_mut().zip(codes) {
            let four = _mm512_set1_epi32(i32::from_ne_bytes(codes[group].map(|c| c as u8)));
            *exact = std::array::from_fn(|vector| {
                _mm512_dpbusd_epi32(exact[vector], weights[vector], four)
            });
        }
    }
    exact
}

/// What the least values come to, which every input of a block is multiplied by.
#[inline]
#[target_feature(enable = "avx512f")]
fn add_least<const R: usize>(
    sums: &mut [[__m512; VECTORS]; R],
    totals: [__m512; R],
    least: [__m512; VECTORS],
) {
    for (sums, total) in sums.iter_mut().zip(totals) {
        *sums = std::array::from_fn(|vector| _mm512_fmadd_ps(total, least[vector], sums[vector]));
    }
}

/// # Safety
///
/// `to` points at `width` values, at most WIDTH.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn store(sums: [__m512; VECTORS], to: *mut f32, width: usize, add: bool) {
    for (vector, sum) in sums.into_iter().enumerate() {
        let here = width.saturating_sub(16 * vector).min(16);
        let mask = ((1_u32 << here) - 1) as u16;
        let to = to.wrapping_add(16 * vector);
        // SAFETY: masked lanes are not touched, the others lie before `width`.
        unsafe {
            let old = if add { _mm512_maskz_loadu_ps(mask, to) } else { _mm512_setzero_ps() };
            _mm512_mask_storeu_ps(to, mask, _mm512_add_ps(old, sum));
        }
    }
}

/// Four inputs of every output, as unsigned bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn weights<const FOUR: bool>(lines: &[Line], group: usize) -> [__m512i; VECTORS] {
    if !FOUR {
        return std::array::from_fn(|vector| load(&lines[VECTORS * group + vector]));
    }
    let low = _mm512_set1_epi8(15);
    std::array::from_fn(|vector| {
        let both = load(&lines[VECTORS * (group % 4) + vector]);
        let wanted = if group < 4 { both } else { _mm512_srli_epi16::<4>(both) };
        _mm512_and_si512(wanted, low)
    })
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(line: &Line) -> __m512i {
    // SAFETY: a line is as long as the vector and aligned to it.
    unsafe { _mm512_load_si512(line.0.as_ptr().cast()) }
}

/// Half-precision numbers of one panel.
#[inline]
#[target_feature(enable = "avx512f")]
fn widened(halves: &[u16]) -> [__m512; VECTORS] {
    std::array::from_fn(|vector| {
        let halves: Option<&[u16; 16]> = halves[16 * vector..].first_chunk();
        let halves = halves.expect("sixteen scales to a vector");
        // SAFETY: the array is as long as the vector, and no alignment is asked for.
        let halves: __m256i = unsafe { _mm256_loadu_si256(halves.as_ptr().cast()) };
        _mm512_cvtph_ps(halves)
    })
}
