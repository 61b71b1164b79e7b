use super::*;
use crate::kernels::reference::{assert_near, noise};

const SHAPES: [(usize, usize, usize); 6] =
    [(1, 1, 1), (5, 70, 16), (97, 33, 48), (200, 300, 7), (19, 130, 65), (300, 64, 40)];

/// x times some columns of w.
fn times(x: Rows<'_>, rows: usize, w: Panels<'_>, columns: Range<usize>) -> Vec<f32> {
    let mut out = vec![0.5; rows * columns.len()];
    let mut c = Columns::of(&mut out, (rows, columns.len()), (0, columns.len()));
    multiply(x, (w, columns), &mut c, Into::Replace);
    out
}

#[test]
fn a_wide_side_times_a_narrow_one_agrees_with_the_definition() {
    for (rows, inner, cols) in SHAPES {
        let (wide, w) = (noise(rows * (inner + 3), 1), noise(inner * cols, 2));
        let x: Vec<f32> = wide.chunks(inner + 3).flat_map(|row| &row[..inner]).copied().collect();
        let expected = definition(&x, &w, (rows, inner, cols));
        let x = Rows { values: &wide, width: inner, stride: inner + 3 };
        let packed = panels::pack(&w, inner, cols);
        for w in [Panels::whole(&w, cols), Panels::packed(&packed, cols)] {
            assert_near(&times(x, rows, w, 0..cols), &expected, 1e-4);
        }
    }
}

#[test]
fn some_columns_are_those_of_the_whole_wherever_panels_end() {
    let (inner, cols) = (7, 3 * WIDTH + 5);
    let (x, w) = (noise(inner, 1), noise(inner * cols, 2));
    let packed = panels::pack(&w, inner, cols);
    let x = Rows::whole(&x, inner);
    let all = times(x, 1, Panels::whole(&w, cols), 0..cols);
    for columns in [0..cols, 3..3, 1..WIDTH, WIDTH - 1..WIDTH + 1, 70..cols, cols - 1..cols] {
        for w in [Panels::whole(&w, cols), Panels::packed(&packed, cols)] {
            assert_eq!(times(x, 1, w, columns.clone()), all[columns.clone()], "{columns:?}");
        }
    }
}

#[test]
fn gradients_of_adapters_agree_with_the_definition() {
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

/// x `[rows, inner]` · w `[inner, cols]`.
fn definition(x: &[f32], w: &[f32], (rows, inner, cols): (usize, usize, usize)) -> Vec<f32> {
    let at = |i: usize, j: usize| (0..inner).map(|k| x[i * inner + k] * w[k * cols + j]).sum();
    (0..rows * cols).map(|index| at(index / cols, index % cols)).collect()
}

#[test]
fn panels_and_transposes_agree_with_the_definition_and_rows_do_not_see_each_other() {
    for (rows, inner, cols) in [(1, 5, 3), (7, 40, 300), (66, 33, 130), (200, 20, 64)] {
        let (x, w) = (noise(rows * inner, 1), noise(inner * cols, 2));
        let expected = definition(&x, &w, (rows, inner, cols));
        let packed = panels::pack(&w, inner, cols);
        let turned: Vec<f32> =
            (0..cols).flat_map(|j| w.iter().skip(j).step_by(cols)).copied().collect();
        let mut by_panels = vec![0.5; rows * cols];
        times_panels(&mut by_panels, &x, &packed, rows, Into::Replace);
        assert_near(&by_panels, &expected, 1e-4);
        let mut by_rows = vec![9.0; rows * cols];
        times_transposed(&x, &turned, rows, &mut by_rows);
        assert_eq!(by_rows, by_panels, "both are the same chain of sums");
        let last = &x[(rows - 1) * inner..];
        let mut alone = vec![9.0; cols];
        times_panels(&mut alone, last, &packed, 1, Into::Replace);
        assert_eq!(alone, by_panels[(rows - 1) * cols..]);
        times_transposed(last, &turned, 1, &mut alone);
        assert_eq!(alone, by_panels[(rows - 1) * cols..]);
        times_panels(&mut by_panels, &x, &packed, rows, Into::Add);
        let twice: Vec<f32> = expected.iter().map(|value| 2.0 * value).collect();
        assert_near(&by_panels, &twice, 1e-4);
    }
}
