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

    #[test]
    fn the_fast_loop_gives_the_same_bits() {
        for (rows, depth, cols) in [(1, 70, 64), (5, 33, 48), (13, 16, 7), (6, 0, 20)] {
            let (x, w) = (noise(rows * depth, 1), noise(depth * cols, 2));
            let left = Left { values: &x, row: depth, step: 1 };
            let right = Right { values: &w, stride: cols };
            for into in [Into::Replace, Into::Add] {
                let [mut plain, mut fast] = [(); 2].map(|()| noise(rows * cols, 3));
                let place = &mut Columns::of(&mut plain, (rows, cols), (0, cols));
                column(left, (right, depth), 0.5, place, into);
                let place = &mut Columns::of(&mut fast, (rows, cols), (0, cols));
                super::super::product(left, (right, depth), 0.5, place, into);
                assert_eq!(plain, fast);
            }
            let mut half = Vec::<f16>::new();
            Weight::extend(&mut half, &w);
            let right = Right { values: &half, stride: cols };
            let [mut plain, mut fast] = [(); 2].map(|()| noise(rows * cols, 3));
            let place = &mut Columns::of(&mut plain, (rows, cols), (0, cols));
            column(left, (right, depth), 0.5, place, Into::Add);
            let place = &mut Columns::of(&mut fast, (rows, cols), (0, cols));
            super::super::product(left, (right, depth), 0.5, place, Into::Add);
            assert_eq!(plain, fast, "in sixteen bits");
        }
    }
}
