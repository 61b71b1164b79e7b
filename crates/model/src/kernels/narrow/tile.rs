//! The inner loop: a few rows times up to 64 columns, all sums in registers.

#![expect(unsafe_code, reason = "fused multiply-add is reached through intrinsics over pointers")]

/// Columns of the widest tile: four vectors of sixteen.
pub(super) const WIDTH: usize = 64;

/// Element (i, k) is `values[i * row + k * step]`.
#[derive(Clone, Copy)]
pub(super) struct Left<'a> {
    pub(super) values: &'a [f32],
    pub(super) row: usize,
    pub(super) step: usize,
}

/// Element (k, j) is `values[k * stride + j]`, j < cols ≤ [`WIDTH`].
#[derive(Clone, Copy)]
pub(super) struct Right<'a> {
    pub(super) values: &'a [f32],
    pub(super) stride: usize,
    pub(super) cols: usize,
}

pub(super) fn is_supported() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx512f");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

/// c = scale · a · b, or c += scale · a · b; c's rows lie `stride` apart.
pub(super) fn product(
    (a, rows): (Left<'_>, usize),
    (b, depth): (Right<'_>, usize),
    scale: f32,
    (c, stride): (&mut [f32], usize),
    add: bool,
) {
    if rows == 0 || b.cols == 0 {
        return;
    }
    assert!(is_supported(), "narrow products are only asked for where the processor has them");
    assert!(b.cols <= WIDTH && (b.cols <= stride || rows == 1), "a tile wider than its rows");
    if let Some(last) = depth.checked_sub(1) {
        let a_end = (rows - 1) * a.row + last * a.step;
        assert!(a_end < a.values.len(), "the left side leaves its slice");
        assert!(last * b.stride + b.cols <= b.values.len(), "the right side leaves its slice");
    }
    assert!((rows - 1) * stride + b.cols <= c.len(), "a product leaves its slice");
    // As tall as leaves registers for the addresses of the rows.
    #[cfg(target_arch = "x86_64")]
    match b.cols.div_ceil(16) {
        1 => x86::column::<8, 1>((a, rows), (b, depth), scale, (c, stride), add),
        2 => x86::column::<8, 2>((a, rows), (b, depth), scale, (c, stride), add),
        3 => x86::column::<8, 3>((a, rows), (b, depth), scale, (c, stride), add),
        _ => x86::column::<6, 4>((a, rows), (b, depth), scale, (c, stride), add),
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (scale, add);
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        _mm512_add_ps, _mm512_fmadd_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps,
        _mm512_mul_ps, _mm512_set1_ps, _mm512_setzero_ps,
    };

    use super::{Left, Right};

    /// All rows, R at a time, what is left over four, two and one at a time. The caller has checked
    /// bounds and instructions.
    pub(super) fn column<const R: usize, const V: usize>(
        (a, rows): (Left<'_>, usize),
        (b, depth): (Right<'_>, usize),
        scale: f32,
        (c, stride): (&mut [f32], usize),
        add: bool,
    ) {
        let mut row = 0;
        while row < rows {
            let height = [R, 4, 2].into_iter().find(|height| rows - row >= *height).unwrap_or(1);
            let left =
                if depth == 0 { a.values.as_ptr() } else { a.values[row * a.row..].as_ptr() };
            let place = c[row * stride..].as_mut_ptr();
            let operands = Operands { a: left, row: a.row, step: a.step, b, depth, scale };
            // SAFETY: `product` has checked all `rows` rows, of which these are `height`; it has
            // checked for the instructions as well.
            unsafe {
                match height {
                    1 => tile::<1, V>(operands, place, stride, add),
                    2 => tile::<2, V>(operands, place, stride, add),
                    4 => tile::<4, V>(operands, place, stride, add),
                    _ => tile::<R, V>(operands, place, stride, add),
                }
            }
            row += height;
        }
    }

    struct Operands<'a> {
        a: *const f32,
        row: usize,
        step: usize,
        b: Right<'a>,
        depth: usize,
        scale: f32,
    }

    /// # Safety
    ///
    /// `a` reaches to (R − 1) · row + (depth − 1) · step, `b` holds depth rows of `cols` ≤ 16 · V
    /// columns, and `c` has R rows of as many.
    #[target_feature(enable = "avx512f")]
    unsafe fn tile<const R: usize, const V: usize>(
        of: Operands<'_>,
        c: *mut f32,
        stride: usize,
        add: bool,
    ) {
        let masks: [u16; V] = std::array::from_fn(|vector| {
            let here = of.b.cols.saturating_sub(16 * vector).min(16);
            ((1_u32 << here) - 1) as u16
        });
        let mut sums = [[_mm512_setzero_ps(); V]; R];
        let (mut a, mut b) = (of.a, of.b.values.as_ptr());
        for _ in 0..of.depth {
            let mut w = [_mm512_setzero_ps(); V];
            for (vector, (w, mask)) in w.iter_mut().zip(masks).enumerate() {
                // SAFETY: the mask leaves only columns that `b` has.
                *w = unsafe { _mm512_maskz_loadu_ps(mask, b.wrapping_add(16 * vector)) };
            }
            for (row, sums) in sums.iter_mut().enumerate() {
                // SAFETY: row < R at a step below depth.
                let x = _mm512_set1_ps(unsafe { *a.add(row * of.row) });
                for (sum, w) in sums.iter_mut().zip(w) {
                    *sum = _mm512_fmadd_ps(x, w, *sum);
                }
            }
            (a, b) = (a.wrapping_add(of.step), b.wrapping_add(of.b.stride));
        }
        let scale = _mm512_set1_ps(of.scale);
        for (row, sums) in sums.into_iter().enumerate() {
            for (vector, (sum, mask)) in sums.into_iter().zip(masks).enumerate() {
                let to = c.wrapping_add(row * stride + 16 * vector);
                let scaled = _mm512_mul_ps(sum, scale);
                // SAFETY: the mask leaves only columns that `c` has in its rows below R.
                unsafe {
                    let old =
                        if add { _mm512_maskz_loadu_ps(mask, to) } else { _mm512_setzero_ps() };
                    _mm512_mask_storeu_ps(to, mask, _mm512_add_ps(old, scaled));
                }
            }
        }
    }
}
