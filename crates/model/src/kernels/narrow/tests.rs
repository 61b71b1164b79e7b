use super::*;
use crate::kernels::reference::{assert_near, noise};

const SHAPES: [(usize, usize, usize); 6] =
    [(1, 1, 1), (5, 70, 16), (97, 33, 48), (200, 300, 7), (19, 130, 65), (300, 64, 40)];

#[test]
fn a_wide_side_times_a_narrow_one_agrees_with_the_definition() {
    if !tile::is_supported() {
        return;
    }
    for (rows, inner, cols) in SHAPES {
        let (x, w) = (noise(rows * (inner + 3), 1), noise(inner * cols, 2));
        let (column, stride) = (2, cols + 5);
        let mut out = noise(rows * stride, 3);
        let mut expected = out.clone();
        for (at, out) in expected.iter_mut().enumerate() {
            let (row, j) = (at / stride, at % stride);
            if (column..column + cols).contains(&j) {
                let term = |k: usize| x[row * (inner + 3) + k] * w[k * cols + j - column];
                *out = 0.5 * (0..inner).map(term).sum::<f32>();
            }
        }
        let x = Rows { values: &x, width: inner, stride: inner + 3 };
        times(x, Rows::whole(&w, cols), 0.5, &mut out, (column, stride));
        assert_near(&out, &expected, 1e-4);
    }
}

#[test]
fn gradients_of_adapters_agree_with_the_definition() {
    if !tile::is_supported() {
        return;
    }
    for (rows, inputs, rank) in [(1, 1, 1), (70, 33, 5), (131, 64, 16), (67, 70, 70)] {
        let (width, maps) = (200, [(0, 64), (70, 90)]);
        let stack = 2 * rank;
        let (dy, x, u) = (noise(rows * width, 1), noise(rows * inputs, 2), noise(rows * stack, 3));
        let bs = maps.map(|(column, outputs)| noise(outputs * rank, 4 + column as u64));
        let given = Adapted {
            dy: Rows::whole(&dy, width),
            x: Rows::whole(&x, inputs),
            u: &u,
            maps: maps
                .iter()
                .zip(&bs)
                .map(|(at, b)| Map { column: at.0, outputs: at.1, b })
                .collect(),
            rank,
            scale: 0.5,
        };
        let found = gradients(&given, rows);
        for (index, ((column, outputs), b)) in maps.into_iter().zip(&bs).enumerate() {
            for row in 0..rows {
                for k in 0..rank {
                    let term = |o: usize| 0.5 * dy[row * width + column + o] * b[o * rank + k];
                    let at = row * stack + index * rank + k;
                    assert_near(&[found.du[at]], &[(0..outputs).map(term).sum()], 1e-4);
                }
            }
            let (mut d_b, before) = (noise(outputs * rank, 9), noise(outputs * rank, 9));
            found.add_b(index, &mut d_b);
            for (at, d_b) in d_b.iter().enumerate() {
                let (o, k) = (at / rank, at % rank);
                let term = |row: usize| {
                    0.5 * dy[row * width + column + o] * u[row * stack + index * rank + k]
                };
                assert_near(&[*d_b], &[before[at] + (0..rows).map(term).sum::<f32>()], 1e-4);
            }
        }
        let mut d_a = vec![1.0; stack * inputs];
        found.add_a(&mut d_a);
        for (at, d_a) in d_a.iter().enumerate() {
            let term =
                |row: usize| found.du[row * stack + at / inputs] * x[row * inputs + at % inputs];
            assert_near(&[*d_a], &[1.0 + (0..rows).map(term).sum::<f32>()], 1e-3);
        }
    }
}
