//! The loop with sums in 256-bit registers, for processors without the dot product of bytes.
//!
//! What they have instead adds two products in sixteen bits, which two full codes would leave. Half
//! a code at a time fits: 8 · 2 · 15 · 127 < 2¹⁵, so a whole block is summed before anything is
//! widened. In four bits that is the code; in eight, the low and the high half are summed apart.

#![expect(unsafe_code, reason = "vector loads and stores take pointers")]

use std::{
    arch::x86_64::{
        __m256, __m256i, _MM_HINT_T0, _mm_loadu_si128, _mm_prefetch, _mm256_add_epi16,
        _mm256_add_epi32, _mm256_and_si256, _mm256_cvtepi32_ps, _mm256_cvtph_ps, _mm256_fmadd_ps,
        _mm256_load_si256, _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_mul_ps,
        _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_ps,
        _mm256_setzero_si256, _mm256_srli_epi16,
    },
    ptr,
};

use super::{
    super::{
        super::avx2::{LANES, store},
        BLOCK, Bits, GROUPS, Panel, WIDTH,
        inputs::Inputs,
    },
    Columns, Line,
};

/// Vectors of one panel's outputs; a line holds two.
const VECTORS: usize = WIDTH / LANES;

/// How many lines ahead of those being multiplied weights are called for.
const AHEAD: usize = 64;

pub(super) fn is_supported() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
}

/// All rows of a panel's product, four at a time, then two and one. Few rows take more vectors at
/// once: there are sixteen registers. The caller has checked bounds and instructions.
pub(super) fn panel(a: &Inputs, w: Panel<'_>, c: &mut Columns<'_>, add: bool) {
    let mut first = 0;
    while first < a.rows {
        let height = [4, 2].into_iter().find(|height| a.rows - first >= *height).unwrap_or(1);
        // SAFETY: the caller has checked the instructions, the panel's depth and the product's
        // shape.
        unsafe {
            match (w.bits, height) {
                (Bits::Eight, 1) => tile::<1, 4, false>(a, first, w, c, add),
                (Bits::Eight, 2) => tile::<2, 2, false>(a, first, w, c, add),
                (Bits::Eight, _) => tile::<4, 1, false>(a, first, w, c, add),
                (Bits::Four, 1) => tile::<1, 4, true>(a, first, w, c, add),
                (Bits::Four, 2) => tile::<2, 4, true>(a, first, w, c, add),
                (Bits::Four, _) => tile::<4, 2, true>(a, first, w, c, add),
            }
        }
        first += height;
    }
}

/// # Safety
///
/// `a` has R rows from `first` on; the panel has as many blocks as they; `c` has those rows and at
/// most WIDTH columns.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tile<const R: usize, const V: usize, const FOUR: bool>(
    a: &Inputs,
    first: usize,
    w: Panel<'_>,
    c: &mut Columns<'_>,
    add: bool,
) {
    let mut sums = [[_mm256_setzero_ps(); VECTORS]; R];
    let lines = w.lines.chunks_exact(w.bits.lines());
    let scales = w.scales.chunks_exact(w.bits.scales() * WIDTH);
    for (block, (lines, scales)) in lines.zip(scales).enumerate() {
        for line in lines {
            _mm_prefetch::<_MM_HINT_T0>(ptr::from_ref(line).wrapping_add(AHEAD).cast());
        }
        let at: [usize; R] = std::array::from_fn(|row| (first + row) * a.blocks + block);
        let inputs = at.map(|at| _mm256_set1_ps(a.scales[at]));
        let mut exact = [[_mm256_setzero_si256(); VECTORS]; R];
        for start in (0..VECTORS).step_by(V) {
            let found = products::<R, V, FOUR>(a, at, lines, start);
            for (exact, found) in exact.iter_mut().zip(found) {
                exact[start..start + V].copy_from_slice(&found);
            }
        }
        let scale = widened(scales);
        for ((sums, exact), input) in sums.iter_mut().zip(exact).zip(inputs) {
            *sums = std::array::from_fn(|vector| {
                let scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(exact[vector]), input);
                _mm256_fmadd_ps(scaled, scale[vector], sums[vector])
            });
        }
        if FOUR {
            let least = widened(&scales[WIDTH..]);
            let totals = at.map(|at| _mm256_set1_ps(a.sums[at] as f32 * a.scales[at]));
            for (sums, total) in sums.iter_mut().zip(totals) {
                *sums = std::array::from_fn(|vector| {
                    _mm256_fmadd_ps(total, least[vector], sums[vector])
                });
            }
        }
    }
    for (row, sums) in sums.into_iter().enumerate() {
        store(&sums, c.row(first + row), add);
    }
}

/// Σ code · code over one block, exactly, for every row and V vectors of outputs from `start` on.
#[inline]
#[target_feature(enable = "avx2")]
fn products<const R: usize, const V: usize, const FOUR: bool>(
    a: &Inputs,
    at: [usize; R],
    lines: &[Line],
    start: usize,
) -> [[__m256i; V]; R] {
    let zero = _mm256_setzero_si256();
    let codes: [&[[i8; 4]; GROUPS]; R] = at.map(|at| {
        let codes = a.codes[at * BLOCK..(at + 1) * BLOCK].as_chunks::<4>().0;
        codes.first_chunk().expect("a block of codes")
    });
    let four = |row: usize, group: usize| {
        _mm256_set1_epi32(i32::from_ne_bytes(codes[row][group].map(|code| code as u8)))
    };
    let low = _mm256_set1_epi8(15);
    // Sums of low halves and of high ones. In four bits those are two groups, and summed as one.
    let (mut halves, apart) = ([[[zero; V]; 2]; R], usize::from(!FOUR));
    let held = if FOUR { GROUPS / 2 } else { GROUPS };
    for group in 0..held {
        for vector in 0..V {
            let half = 4 * group + start + vector;
            let both = load(&lines[half / 2], half % 2);
            let under = _mm256_and_si256(both, low);
            let over = _mm256_and_si256(_mm256_srli_epi16::<4>(both), low);
            for (row, halves) in halves.iter_mut().enumerate() {
                let (first, second) = (four(row, group), group + if FOUR { held } else { 0 });
                let second = if FOUR { four(row, second) } else { first };
                let under = _mm256_maddubs_epi16(under, first);
                let over = _mm256_maddubs_epi16(over, second);
                halves[0][vector] = _mm256_add_epi16(halves[0][vector], under);
                halves[apart][vector] = _mm256_add_epi16(halves[apart][vector], over);
            }
        }
    }
    let (ones, sixteens) = (_mm256_set1_epi16(1), _mm256_set1_epi16(16));
    std::array::from_fn(|row| {
        let [under, over] = halves[row];
        // In eight bits codes are held 128 higher than they are.
        let higher = _mm256_set1_epi32(-128 * a.sums[at[row]]);
        std::array::from_fn(|vector| {
            let under = _mm256_madd_epi16(under[vector], ones);
            if FOUR {
                return under;
            }
            let over = _mm256_madd_epi16(over[vector], sixteens);
            _mm256_add_epi32(_mm256_add_epi32(under, higher), over)
        })
    })
}

/// One half of a line.
#[inline]
#[target_feature(enable = "avx2")]
fn load(line: &Line, half: usize) -> __m256i {
    let bytes = &line.0[32 * half..32 * (half + 1)];
    // SAFETY: half a line is as long as the vector and, lines being aligned to 64, aligned to it.
    unsafe { _mm256_load_si256(bytes.as_ptr().cast()) }
}

/// Half-precision numbers of one panel.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn widened(halves: &[u16]) -> [__m256; VECTORS] {
    std::array::from_fn(|vector| {
        let halves: Option<&[u16; LANES]> = halves[LANES * vector..].first_chunk();
        let halves = halves.expect("eight scales to a vector");
        // SAFETY: the array is as long as the vector, and no alignment is asked for.
        _mm256_cvtph_ps(unsafe { _mm_loadu_si128(halves.as_ptr().cast()) })
    })
}
