//! Products with few rows on the left, as decoding needs: limited by how fast weights are read, so
//! each weight is read once, in order, by one thread.

use multiversion::multiversion;
use rayon::prelude::*;

use super::simd::long_dot;

/// Up to this many rows [`times`] beats a general product.
pub(crate) const MOST_ROWS: usize = 2;

/// Up to this many rows [`times_transposed`] does, which need not pack its weights first.
pub(crate) const MOST_ROWS_TRANSPOSED: usize = 8;

/// Up to this many rows of one adapter are worth its own loops instead of products.
pub(crate) const MOST_ROWS_ADAPTED: usize = 8;

/// Rows of weights one task reads. Fixed, so that sums do not depend on the number of threads.
const BAND: usize = 96;

/// out `[rows, out.len() / rows]` (+)= x `[rows, w_rows]` · w `[w_rows, cols]`.
pub(crate) fn times(x: &[f32], w: &[f32], rows: usize, out: &mut [f32], add: bool) {
    let cols = out.len() / rows;
    let inner = x.len() / rows;
    let parts: Vec<Vec<f32>> = w
        .par_chunks(BAND * cols)
        .enumerate()
        .map(|(index, band)| {
            let mut part = vec![0.0; rows * cols];
            for (x, part) in x.chunks_exact(inner).zip(part.chunks_exact_mut(cols)) {
                let first = index * BAND;
                combine(&x[first..first + band.len() / cols], band, part);
            }
            part
        })
        .collect();
    if !add {
        out.fill(0.0);
    }
    for part in parts {
        for (out, part) in out.iter_mut().zip(part) {
            *out += part;
        }
    }
}

/// out `[rows, w_rows]` = x `[rows, inner]` · wᵀ for w `[w_rows, inner]`.
pub(crate) fn times_transposed(x: &[f32], w: &[f32], rows: usize, out: &mut [f32]) {
    let inner = x.len() / rows;
    let w_rows = out.len() / rows;
    let band = 4 * BAND;
    let parts: Vec<Vec<f32>> = w
        .par_chunks(band * inner)
        .map(|w| {
            let mut part = vec![0.0; w.len() / inner * rows];
            dots(x, w, rows, inner, &mut part);
            part
        })
        .collect();
    for (row, out) in out.chunks_exact_mut(w_rows).enumerate() {
        for (part, out) in parts.iter().zip(out.chunks_mut(band)) {
            for (value, out) in part.chunks_exact(rows).zip(out) {
                *out = value[row];
            }
        }
    }
}

/// u `[rows, stack]` = x · Aᵀ for a stack of A, within one thread.
#[multiversion(targets = "simd")]
pub(crate) fn adapter(x: &[f32], a: &[f32], rows: usize, u: &mut [f32]) {
    let inner = x.len() / rows;
    let stack = u.len() / rows;
    for (index, a) in a.chunks_exact(inner).enumerate() {
        for (x, u) in x.chunks_exact(inner).zip(u.chunks_exact_mut(stack)) {
            u[index] = long_dot(x, a);
        }
    }
}

/// sum += Σ x[k] · w[k, :].
#[multiversion(targets = "simd")]
pub(crate) fn combine(x: &[f32], w: &[f32], sum: &mut [f32]) {
    // Four rows at once read and write the sum a quarter as often; more streams only get in each
    // other's way.
    let cols = sum.len();
    let (quads, rest) = x.as_chunks::<4>();
    let (w_quads, w_rest) = w.split_at(quads.len() * 4 * cols);
    for (x, w) in quads.iter().zip(w_quads.chunks_exact(4 * cols)) {
        let (a, w) = w.split_at(cols);
        let (b, w) = w.split_at(cols);
        let (c, d) = w.split_at(cols);
        let columns = a.iter().zip(b).zip(c.iter().zip(d));
        for (sum, ((a, b), (c, d))) in sum.iter_mut().zip(columns) {
            *sum += (x[0] * a + x[1] * b) + (x[2] * c + x[3] * d);
        }
    }
    for (x, w) in rest.iter().zip(w_rest.chunks_exact(cols)) {
        for (sum, w) in sum.iter_mut().zip(w) {
            *sum += x * w;
        }
    }
}

/// For each row of w, its product with every row of x, side by side.
#[multiversion(targets = "simd")]
fn dots(x: &[f32], w: &[f32], rows: usize, inner: usize, out: &mut [f32]) {
    for (w, out) in w.chunks_exact(inner).zip(out.chunks_exact_mut(rows)) {
        for (x, out) in x.chunks_exact(inner).zip(out) {
            *out = long_dot(x, w);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reference::{assert_near, noise};

    #[test]
    fn both_products_agree_with_the_definition() {
        for (rows, inner, cols) in [(1, 1, 1), (1, 200, 33), (3, 70, 300), (4, 129, 64)] {
            let (x, w) = (noise(rows * inner, 1), noise(inner * cols, 2));
            let mut expected = vec![0.0; rows * cols];
            for i in 0..rows {
                for j in 0..cols {
                    let products = (0..inner).map(|k| x[i * inner + k] * w[k * cols + j]);
                    expected[i * cols + j] = products.sum();
                }
            }
            let mut out = noise(rows * cols, 3);
            let added: Vec<f32> = out.iter().zip(&expected).map(|(a, b)| a + b).collect();
            times(&x, &w, rows, &mut out, true);
            assert_near(&out, &added, 1e-5);
            times(&x, &w, rows, &mut out, false);
            assert_near(&out, &expected, 1e-5);

            let turned: Vec<f32> =
                (0..cols * inner).map(|at| w[at % inner * cols + at / inner]).collect();
            times_transposed(&x, &turned, rows, &mut out);
            assert_near(&out, &expected, 1e-5);
        }
    }
}
