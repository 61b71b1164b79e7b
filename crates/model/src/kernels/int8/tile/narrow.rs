//! What the loops with sums in 256-bit registers have in common, whatever they sum products of bytes
//! by.

#![expect(unsafe_code, reason = "vector loads take pointers")]

use std::arch::x86_64::{
    __m256, __m256i, _mm_loadu_si128, _mm256_cvtph_ps, _mm256_load_si256, _mm256_set1_epi32,
};

use super::{
    super::{super::avx2::LANES, BLOCK, GROUPS, WIDTH, inputs::Inputs},
    Line,
};

/// Vectors of one panel's outputs; a line holds two.
pub(super) const VECTORS: usize = WIDTH / LANES;

/// How many lines ahead of those being multiplied weights are called for.
pub(super) const AHEAD: usize = 64;

/// A block of one row's inputs, in groups of four.
pub(super) type Codes<'a> = &'a [[i8; 4]; GROUPS];

/// A module's `panel` over its `eight` and `four`, which sum the products of one block exactly, on
/// processors that have the named instructions.
macro_rules! tiles {
    ($features:literal) => {
        /// All rows of a panel's product, four at a time, then two and one. Few rows take more
        /// vectors at once: there are sixteen registers. The caller has checked bounds and
        /// instructions.
        pub(super) fn panel(a: &Inputs, w: Panel<'_>, c: &mut Columns<'_>, add: bool) {
            let mut first = 0;
            while first < a.rows {
                let height = [4, 2].into_iter().find(|height| a.rows - first >= *height);
                // SAFETY: the caller has checked the instructions, the panel's depth and the
                // product's shape.
                unsafe {
                    match (w.bits, height) {
                        (Bits::Eight, None) => tile::<1, 4, false>(a, first, w, c, add),
                        (Bits::Eight, Some(2)) => tile::<2, 4, false>(a, first, w, c, add),
                        (Bits::Eight, Some(_)) => tile::<4, 2, false>(a, first, w, c, add),
                        (Bits::Four, None) => tile::<1, 4, true>(a, first, w, c, add),
                        (Bits::Four, Some(2)) => tile::<2, 4, true>(a, first, w, c, add),
                        (Bits::Four, Some(_)) => tile::<4, 2, true>(a, first, w, c, add),
                    }
                }
                first += height.unwrap_or(1);
            }
        }

        /// # Safety
        ///
        /// `a` has R rows from `first` on; the panel has as many blocks as they; `c` has those rows
        /// and at most WIDTH columns.
        #[target_feature(enable = $features)]
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
                let codes: [Codes<'_>; R] = at.map(|at| codes(a, at));
                let inputs = at.map(|at| _mm256_set1_ps(a.scales[at]));
                let scale = widened(scales);
                for start in (0..VECTORS).step_by(V) {
                    let exact: [[__m256i; V]; R] = if FOUR {
                        four(codes, lines, start)
                    } else {
                        eight(codes, at.map(|at| a.sums[at]), lines, start)
                    };
                    for ((sums, exact), input) in sums.iter_mut().zip(exact).zip(inputs) {
                        for (vector, exact) in exact.into_iter().enumerate() {
                            let scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(exact), input);
                            let (sum, scale) = (&mut sums[start + vector], scale[start + vector]);
                            *sum = _mm256_fmadd_ps(scaled, scale, *sum);
                        }
                    }
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
    };
}
pub(super) use tiles;

pub(super) fn codes(a: &Inputs, at: usize) -> Codes<'_> {
    let codes = a.codes[at * BLOCK..(at + 1) * BLOCK].as_chunks().0;
    codes.first_chunk().expect("a block of codes")
}

/// Four inputs of one row, for every output.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn spread(four: [i8; 4]) -> __m256i {
    _mm256_set1_epi32(i32::from_ne_bytes(four.map(|code| code as u8)))
}

/// One half of a line.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load(line: &Line, half: usize) -> __m256i {
    let bytes = &line.0[32 * half..32 * (half + 1)];
    // SAFETY: half a line is as long as the vector and, lines being aligned to 64, aligned to it.
    unsafe { _mm256_load_si256(bytes.as_ptr().cast()) }
}

/// Half-precision numbers of one panel.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) fn widened(halves: &[u16]) -> [__m256; VECTORS] {
    std::array::from_fn(|vector| {
        let halves: Option<&[u16; LANES]> = halves[LANES * vector..].first_chunk();
        let halves = halves.expect("eight scales to a vector");
        // SAFETY: the array is as long as the vector, and no alignment is asked for.
        _mm256_cvtph_ps(unsafe { _mm_loadu_si128(halves.as_ptr().cast()) })
    })
}
