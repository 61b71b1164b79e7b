//! The inner loop: a few rows times one panel, all sums in registers.

#![expect(unsafe_code, reason = "the instruction is reached through an intrinsic over pointers")]

use super::{
    super::{columns::Columns, gemm::Into},
    LINES,
};

/// Columns of a panel: four vectors of sums per row.
pub(super) const WIDTH: usize = 64;

/// Rows of a tile. With four vectors of weights, 6 × 4 sums and a broadcast pair fill 29 of 32
/// registers; taller and narrower tiles measured slower.
pub(super) const ROWS: usize = 6;

/// Sixteen pairs of bf16 in one cache line, so that no load of weights touches two.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [u32; 16]);

/// Whether the processor multiplies pairs of bf16.
pub(super) fn is_supported() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

/// c (+)= a · w for as many rows of bf16 pairs as c has, `stride` values apart, and one panel's
/// `lines`; c are the panel's columns.
pub(super) fn rows_times_panel(
    (a, stride): (&[u16], usize),
    lines: &[Line],
    c: &mut Columns<'_>,
    into: Into,
) {
    let rows = c.rows;
    assert!(is_supported(), "packed weights exist only where the instruction does");
    assert!(a.len() >= rows * stride && lines.len() * 2 == stride * LINES, "an operand too short");
    assert!(c.width <= WIDTH, "more columns than a panel has");
    for first in (0..rows).step_by(ROWS) {
        let a = &a[first * stride..];
        let tile = Tile { a, stride, lines, c, first, add: into == Into::Add };
        match rows - first {
            1 => tile.run::<1>(),
            2 => tile.run::<2>(),
            3 => tile.run::<3>(),
            4 => tile.run::<4>(),
            5 => tile.run::<5>(),
            _ => tile.run::<ROWS>(),
        }
    }
}

struct Tile<'a, 'c> {
    a: &'a [u16],
    stride: usize,
    lines: &'a [Line],
    c: &'a mut Columns<'c>,
    /// The tile's first row in c.
    first: usize,
    add: bool,
}

impl Tile<'_, '_> {
    #[cfg(target_arch = "x86_64")]
    fn run<const R: usize>(self) {
        assert!(self.a.len() >= R * self.stride, "a tile leaves its rows");
        assert!(self.lines.len() * 2 == self.stride * LINES, "a tile leaves its panel");
        assert!(self.first + R <= self.c.rows, "a tile leaves its product");
        // SAFETY: the caller has checked for the instructions, and the asserts above are the
        // bounds that `x86::tile` asks for.
        unsafe { x86::tile::<R>(self) }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn run<const R: usize>(self) {
        let _ = (self.a, self.stride, self.lines, self.c, self.first, self.add);
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::{
        arch::x86_64::{
            __m512bh, __m512i, _MM_HINT_T0, _mm_prefetch, _mm512_add_ps, _mm512_dpbf16_ps,
            _mm512_load_si512, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_set1_epi32,
            _mm512_setzero_ps,
        },
        mem::transmute,
        ptr,
    };

    use super::{LINES, Tile};

    /// How many lines ahead of those being multiplied weights are called for.
    const AHEAD: usize = 64;

    /// # Safety
    ///
    /// `a` holds R rows of `stride` values, an even number; `lines` holds LINES per pair of them;
    /// `c` has R rows from `first` on, of at most 16 · LINES columns.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) unsafe fn tile<const R: usize>(tile: Tile<'_, '_>) {
        let Tile { a, stride, lines, c, first, add } = tile;
        let (width, c_stride) = (c.width, c.stride);
        let mut sums = [[_mm512_setzero_ps(); LINES]; R];
        let (a, c) = (a.as_ptr().cast::<[u16; 2]>(), c.pointer(first));
        let stride = stride / 2;
        for (pair, lines) in lines.as_chunks::<LINES>().0.iter().enumerate() {
            for line in lines {
                _mm_prefetch::<_MM_HINT_T0>(ptr::from_ref(line).wrapping_add(AHEAD).cast());
            }
            // SAFETY: a line is sixteen u32, aligned to the vector's size.
            let w =
                lines.each_ref().map(|line| unsafe { _mm512_load_si512(line.0.as_ptr().cast()) });
            for (row, sums) in sums.iter_mut().enumerate() {
                // SAFETY: pair < stride and row < R, so the pair lies in `a`.
                let both = unsafe { transmute::<[u16; 2], i32>(*a.add(row * stride + pair)) };
                for (sum, w) in sums.iter_mut().zip(w) {
                    // SAFETY: all are 512 bits without invalid values.
                    let (x, w) = unsafe {
                        (
                            transmute::<__m512i, __m512bh>(_mm512_set1_epi32(both)),
                            transmute::<__m512i, __m512bh>(w),
                        )
                    };
                    *sum = _mm512_dpbf16_ps(*sum, x, w);
                }
            }
        }
        for (row, sums) in sums.into_iter().enumerate() {
            for (line, sum) in sums.into_iter().enumerate() {
                let here = width.saturating_sub(16 * line).min(16);
                let mask = ((1_u32 << here) - 1) as u16;
                // SAFETY: masked lanes are not touched, the others lie before column `width`.
                unsafe {
                    let to = c.wrapping_add(row * c_stride + 16 * line);
                    let old =
                        if add { _mm512_maskz_loadu_ps(mask, to) } else { _mm512_setzero_ps() };
                    _mm512_mask_storeu_ps(to, mask, _mm512_add_ps(old, sum));
                }
            }
        }
    }
}
