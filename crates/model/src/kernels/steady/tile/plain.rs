//! The loop in plain Rust: what every processor runs, and the reference of the faster one.

#![expect(
    clippy::inline_always,
    reason = "only what is inlined into a multiversioned function uses its instruction set"
)]

use multiversion::multiversion;

use super::{
    super::super::{columns::Columns, gemm::Into},
    Left, Right, Weight,
};

/// Columns whose sums are held at once.
const LANES: usize = 16;

pub(super) fn column<T: Weight>(
    a: Left<'_>,
    right: (Right<'_, T>, usize),
    scale: f32,
    c: &mut Columns<'_>,
    into: Into,
) {
    let mut row = 0;
    while row + 4 <= c.rows {
        four(a, right, scale, (c, row), into);
        row += 4;
    }
    for row in row..c.rows {
        one(a, right, scale, (c, row), into);
    }
}

#[multiversion(targets = "simd")]
fn four<T: Weight>(
    a: Left<'_>,
    right: (Right<'_, T>, usize),
    scale: f32,
    place: (&mut Columns<'_>, usize),
    into: Into,
) {
    rows::<T, 4>(a, right, scale, place, into);
}

#[multiversion(targets = "simd")]
fn one<T: Weight>(
    a: Left<'_>,
    right: (Right<'_, T>, usize),
    scale: f32,
    place: (&mut Columns<'_>, usize),
    into: Into,
) {
    rows::<T, 1>(a, right, scale, place, into);
}

#[inline(always)]
fn rows<T: Weight, const R: usize>(
    a: Left<'_>,
    (b, depth): (Right<'_, T>, usize),
    scale: f32,
    (c, first): (&mut Columns<'_>, usize),
    into: Into,
) {
    for column in (0..c.width).step_by(LANES) {
        let width = LANES.min(c.width - column);
        let mut sums = [[0.0_f32; LANES]; R];
        for k in 0..depth {
            // A copy of whole width, so that the loop over it has no end to look for.
            let mut w = [0.0_f32; LANES];
            let held = &b.values[k * b.stride + column..][..width];
            w.iter_mut().zip(held).for_each(|(w, held)| *w = held.wide());
            for (row, sums) in sums.iter_mut().enumerate() {
                let x = a.values[(first + row) * a.row + k * a.step];
                for (sum, w) in sums.iter_mut().zip(w) {
                    *sum = x.mul_add(w, *sum);
                }
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            let place = &mut c.row(first + row)[column..column + width];
            for (place, sum) in place.iter_mut().zip(sums) {
                let scaled = sum * scale;
                *place = if into == Into::Add { *place + scaled } else { scaled };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;
    use crate::kernels::reference::noise;

    /// What the processor has of: the loop that is chosen, and the one it would be without the widest.
    fn each_loop<T: Weight>(w: &[T], x: &[f32], (rows, depth, cols): (usize, usize, usize)) {
        let left = Left { values: x, row: depth, step: 1 };
        let right = Right { values: w, stride: cols };
        for into in [Into::Replace, Into::Add] {
            let run = |product: &dyn Fn(&mut Columns<'_>)| {
                let mut c = noise(rows * cols, 3);
                product(&mut Columns::of(&mut c, (rows, cols), (0, cols)));
                c
            };
            let plain = run(&|c| column(left, (right, depth), 0.5, c, into));
            let chosen = run(&|c| super::super::product(left, (right, depth), 0.5, c, into));
            assert_eq!(plain, chosen, "{rows} x {depth} x {cols}");
            #[cfg(target_arch = "x86_64")]
            if super::super::avx2::is_supported() {
                let narrow =
                    run(&|c| super::super::avx2::column(left, (right, depth), 0.5, c, into));
                assert_eq!(plain, narrow, "{rows} x {depth} x {cols}, in 256 bits");
            }
        }
    }

    #[test]
    fn the_fast_loops_give_the_same_bits() {
        for shape in [(1, 70, 64), (5, 33, 48), (13, 16, 7), (6, 0, 20), (12, 9, 27), (7, 5, 1)] {
            let (rows, depth, cols) = shape;
            let (x, w) = (noise(rows * depth, 1), noise(depth * cols, 2));
            each_loop(&w, &x, shape);
            let mut half = vec![f16::ZERO; w.len()];
            Weight::round(&w, &mut half);
            each_loop(&half, &x, shape);
        }
    }
}
