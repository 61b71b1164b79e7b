//! The loop with sums in 256-bit registers, for processors without the dot product of pairs: a bf16
//! is the upper half of an f32, so both of a pair are widened in one instruction each.
//!
//! A few rows are multiplied while weights are widened, as fast as those come from memory. For many
//! rows the widening would be repeated for each few, so a panel is widened first and multiplied as
//! f32 are. Either way a sum is one chain of fused multiply-adds, so that both give the same bits.

#![expect(unsafe_code, reason = "vector loads and stores take pointers")]

use std::{
    arch::x86_64::{
        __m256, __m256i, _MM_HINT_T0, _mm_prefetch, _mm256_and_si256, _mm256_castsi256_ps,
        _mm256_fmadd_ps, _mm256_load_si256, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_ps,
        _mm256_slli_epi32,
    },
    cell::RefCell,
    ptr,
};

use super::{
    super::{
        super::{
            avx2::{LANES, store},
            steady::{Left, Right, product},
        },
        DEPTH, LINES,
    },
    Into, Line, Tile, WIDTH,
};

/// How many lines ahead of those being multiplied weights are called for.
const AHEAD: usize = 64;

/// From this many rows on, widening a panel costs less than it saves.
const MANY: usize = 16;

thread_local! {
    /// Rows and a panel, widened.
    static SCRATCH: RefCell<(Vec<f32>, Vec<f32>)> = RefCell::default();
}

pub(super) fn is_supported() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

/// All rows of a panel's product. The caller has checked bounds and instructions.
pub(super) fn panel(of: &mut Tile<'_, '_>) {
    if of.c.rows >= MANY {
        SCRATCH.with_borrow_mut(|(a, w)| many_rows(of, a, w));
    } else {
        few_rows(of);
    }
}

fn many_rows(of: &mut Tile<'_, '_>, a: &mut Vec<f32>, w: &mut Vec<f32>) {
    let upper = |bits: u32| f32::from_bits(bits << 16);
    a.clear();
    a.extend(of.a[..of.c.rows * of.stride].iter().map(|bits| upper(u32::from(*bits))));
    w.clear();
    for lines in of.lines.as_chunks::<LINES>().0 {
        let pairs = || lines.iter().flat_map(|line| line.0);
        w.extend(pairs().map(upper));
        w.extend(pairs().map(|pair| f32::from_bits(pair & 0xffff_0000)));
    }
    let left = Left { values: a, row: of.stride, step: 1 };
    let right = Right { values: w, stride: WIDTH };
    let into = if of.add { Into::Add } else { Into::Replace };
    product(left, (right, of.stride), 1.0, of.c, into);
}

/// Four rows at a time, then two and one. Fewer take more lines at once: there are sixteen
/// registers, eight of them for sums.
fn few_rows(of: &mut Tile<'_, '_>) {
    let (rows, mut first) = (of.c.rows, 0);
    while first < rows {
        let height = [4, 2].into_iter().find(|height| rows - first >= *height).unwrap_or(1);
        // SAFETY: whoever calls `panel` has checked the instructions.
        unsafe {
            match height {
                1 => tile::<1, LINES>(of, first),
                2 => tile::<2, 2>(of, first),
                _ => tile::<4, 1>(of, first),
            }
        }
        first += height;
    }
}

/// R rows from `first` on, L lines at a time.
#[target_feature(enable = "avx2,fma")]
fn tile<const R: usize, const L: usize>(of: &mut Tile<'_, '_>, first: usize) {
    // Widened before, because then a broadcast is no more than a load.
    let mut rows = [[0.0; DEPTH]; R];
    for (row, to) in rows.iter_mut().enumerate() {
        let from = &of.a[(first + row) * of.stride..][..of.stride];
        to.iter_mut().zip(from).for_each(|(to, from)| *to = f32::from_bits(u32::from(*from) << 16));
    }
    let rows = rows.each_ref().map(|row| &row[..of.stride]);
    for start in (0..LINES).step_by(L) {
        let mut sums = [[[_mm256_setzero_ps(); 2]; L]; R];
        for (pair, lines) in of.lines.as_chunks::<LINES>().0.iter().enumerate() {
            let x = rows.map(|row| {
                let [even, odd] = row.as_chunks::<2>().0[pair];
                (_mm256_set1_ps(even), _mm256_set1_ps(odd))
            });
            for (at, line) in lines[start..start + L].iter().enumerate() {
                _mm_prefetch::<_MM_HINT_T0>(ptr::from_ref(line).wrapping_add(AHEAD).cast());
                for half in 0..2 {
                    let (even, odd) = widened(load(line, half));
                    add_pair(sums.each_mut().map(|sums| &mut sums[at][half]), x, even, odd);
                }
            }
        }
        for (row, sums) in sums.into_iter().enumerate() {
            let columns = of.c.row(first + row);
            let from = (start * 2 * LANES).min(columns.len());
            store(sums.as_flattened(), &mut columns[from..], of.add);
        }
    }
}

/// sum += x · w for a pair of inputs, in every row.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn add_pair<const R: usize>(
    sums: [&mut __m256; R],
    x: [(__m256, __m256); R],
    even: __m256,
    odd: __m256,
) {
    for (sum, (x_even, x_odd)) in sums.into_iter().zip(x) {
        *sum = _mm256_fmadd_ps(x_odd, odd, _mm256_fmadd_ps(x_even, even, *sum));
    }
}

/// The first and the second of every pair.
#[inline]
#[target_feature(enable = "avx2")]
fn widened(pairs: __m256i) -> (__m256, __m256) {
    let upper = _mm256_set1_epi32(0xffff_0000_u32 as i32);
    let (even, odd) = (_mm256_slli_epi32::<16>(pairs), _mm256_and_si256(pairs, upper));
    (_mm256_castsi256_ps(even), _mm256_castsi256_ps(odd))
}

/// One half of a line.
#[inline]
#[target_feature(enable = "avx2")]
fn load(line: &Line, half: usize) -> __m256i {
    let pairs = &line.0[LANES * half..LANES * (half + 1)];
    // SAFETY: half a line is as long as the vector and, lines being aligned to 64, aligned to it.
    unsafe { _mm256_load_si256(pairs.as_ptr().cast()) }
}
