use super::*;
use crate::kernels::{
    reference::{assert_near, noise},
    steady::{Held, Panels, Rows, Run},
};

fn nearest(value: f32) -> f32 {
    f32::from_bits(u32::from(round(value)) << 16)
}

/// c (+)= a · w with both sides rounded, in f64.
fn definition(c: &mut [f32], a: &[f32], w: &[f32], (rows, inner): (usize, usize), into: Into) {
    let cols = c.len() / rows;
    for (at, c) in c.iter_mut().enumerate() {
        let (row, col) = (at / cols, at % cols);
        let term = |k: usize| {
            f64::from(nearest(a[row * inner + k])) * f64::from(nearest(w[k * cols + col]))
        };
        let sum = (0..inner).map(term).sum::<f64>() as f32;
        *c = if into == Into::Add { *c + sum } else { sum };
    }
}

const SHAPES: [(usize, usize, usize); 10] = [
    (1, 1, 1),
    (1, 64, 64),
    (2, 3, 5),
    (5, 71, 130),
    (6, 16, 63),
    (7, 1600, 65),
    (63, 40, 200),
    (64, 33, 64),
    (131, 769, 96),
    (500, 20, 17),
];

#[test]
fn rounding_is_to_nearest_with_ties_to_even() {
    let cases = [
        (1.0, 1.0),
        (-0.0, -0.0),
        (1.0 + 1.0 / 256.0, 1.0),
        (1.0 + 3.0 / 256.0, 1.0 + 1.0 / 64.0),
        (1.0 + 1.1 / 256.0, 1.0 + 1.0 / 128.0),
        (f32::INFINITY, f32::INFINITY),
        (f32::MAX, f32::INFINITY),
    ];
    for (value, expected) in cases {
        assert_eq!(nearest(value).to_bits(), f32::to_bits(expected), "{value}");
    }
    for bits in [0x7f80_0001, 0x7fff_ffff, 0xffff_ffff] {
        assert!(nearest(f32::from_bits(bits)).is_nan());
    }
}

#[test]
fn products_agree_with_the_definition_for_odd_shapes() {
    for (rows, inner, cols) in SHAPES {
        let (a, plain) = (noise(rows * inner, 1), noise(inner * cols, 2));
        let Some(w) = Packed::new(&plain, inner, cols) else { return };
        for into in [Into::Replace, Into::Add] {
            let mut c = noise(rows * cols, 3);
            let mut expected = c.clone();
            definition(&mut expected, &a, &plain, (rows, inner), into);
            product(&mut c, &a, &w, rows, into);
            assert_near(&c, &expected, 1e-5);
        }
    }
}

#[test]
fn the_transpose_holds_the_same_weights() {
    for (_, inputs, outputs) in SHAPES {
        let plain = noise(inputs * outputs, 2);
        let turned: Vec<f32> =
            (0..inputs * outputs).map(|at| plain[at % inputs * outputs + at / inputs]).collect();
        let Some(w) = Packed::new(&plain, inputs, outputs) else { return };
        let expected = Packed::new(&turned, outputs, inputs).unwrap();
        let lines = |packed: &Packed| -> Vec<[u32; 16]> {
            packed.lines.iter().map(|line| line.0).collect()
        };
        assert_eq!(lines(&w.transposed()), lines(&expected));
    }
}

#[test]
fn a_row_is_the_same_alone_and_among_many() {
    let (inner, cols) = (200, 130);
    let (a, plain) = (noise(200 * inner, 1), noise(inner * cols, 2));
    let Some(w) = Packed::new(&plain, inner, cols) else { return };
    let mut all = vec![0.0; 200 * cols];
    product(&mut all, &a, &w, 200, Into::Replace);
    for row in [0, 77, 199] {
        let mut alone = vec![0.0; cols];
        product(&mut alone, &a[row * inner..][..inner], &w, 1, Into::Replace);
        assert_eq!(alone, all[row * cols..][..cols]);
    }
}

#[test]
fn nothing_times_something_is_nothing_and_nan_is_never_hidden() {
    let Some(w) = Packed::new(&[], 0, 3) else { return };
    let mut c = vec![1.0; 6];
    product(&mut c, &[], &w, 2, Into::Add);
    assert_eq!(c, [1.0; 6]);
    product(&mut c, &[], &w, 2, Into::Replace);
    assert_eq!(c, [0.0; 6]);
    let Some(w) = Packed::new(&[1.0; 6], 2, 3) else { return };
    product(&mut c, &[1.0, f32::NAN, 1.0, 1.0], &w, 2, Into::Replace);
    assert!(c[..3].iter().all(|c| c.is_nan()) && c[3..] == [2.0; 3]);
}

#[test]
fn additions_of_low_rank_are_added_where_they_belong() {
    let (inner, cols, rank) = (90, 200, 5);
    for rows in [3, 64, 150] {
        let (a, plain, u) = (noise(rows * inner, 1), noise(inner * cols, 2), noise(rows * 11, 3));
        let (left, right) = (noise(rank * 70, 4), noise(rank * 61, 5));
        let Some(w) = Packed::new(&plain, inner, cols) else { return };
        let addition = |offset: usize, w, width, column| Run {
            rows: 0..rows,
            x: Rows { values: &u[offset..], width: rank, stride: 11 },
            w: Held::Plain(Panels::whole(w, width)),
            column,
        };
        let additions = [addition(0, &left, 70, 0), addition(5, &right, 61, 139)];
        let (mut c, mut expected) = (vec![0.0; rows * cols], vec![0.0; rows * cols]);
        product(&mut expected, &a, &w, rows, Into::Replace);
        for (at, c) in expected.iter_mut().enumerate() {
            let (row, col) = (at / cols, at % cols);
            let sum = |offset: usize, w: &[f32], width: usize, j: usize| -> f32 {
                (0..rank).map(|k| u[row * 11 + offset + k] * w[k * width + j]).sum()
            };
            *c += match col {
                0..70 => sum(0, &left, 70, col),
                139..200 => sum(5, &right, 61, col - 139),
                _ => 0.0,
            };
        }
        product_with(&mut c, (&a, &w), rows, Into::Replace, &additions.into_iter().collect());
        assert_near(&c, &expected, 1e-5);
    }
}
