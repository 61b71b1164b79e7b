//! Products with few rows on the left, where reading the right side once is what counts.

use multiversion::multiversion;
use rayon::prelude::*;

use super::simd::{LANES, long_dot, sum};

/// Up to this many rows [`times_transposed`] beats a general product, which packs its weights: for
/// SmolLM2's head 9 ms against 17 for 8 rows, 24 against 15 for 16, 59 against 27 for 32.
pub(crate) const MOST_ROWS: usize = 12;

/// Up to this many rows of one adapter are worth their own loops instead of products.
pub(crate) const MOST_ROWS_ADAPTED: usize = 8;

/// Rows of weights one task reads.
const BAND: usize = 256;

/// Rows of x multiplied at a time, so that each weight is loaded once for all of them.
const AT_ONCE: usize = 4;

/// out `[rows, w_rows]` = x `[rows, inner]` · wᵀ for w `[w_rows, inner]`.
pub(crate) fn times_transposed(x: &[f32], w: &[f32], rows: usize, out: &mut [f32]) {
    let inner = x.len() / rows;
    let w_rows = out.len() / rows;
    let parts: Vec<Vec<f32>> = w
        .par_chunks(BAND * inner)
        .map(|w| {
            let mut part = vec![0.0; w.len() / inner * rows];
            dots(x, w, rows, inner, &mut part);
            part
        })
        .collect();
    for (row, out) in out.chunks_exact_mut(w_rows).enumerate() {
        for (part, out) in parts.iter().zip(out.chunks_mut(BAND)) {
            for (value, out) in part.chunks_exact(rows).zip(out) {
                *out = value[row];
            }
        }
    }
}

/// For each row of w, its product with every row of x, side by side.
#[multiversion(targets = "simd")]
fn dots(x: &[f32], w: &[f32], rows: usize, inner: usize, out: &mut [f32]) {
    let whole = inner / LANES * LANES;
    for (w, out) in w.chunks_exact(inner).zip(out.chunks_exact_mut(rows)) {
        let blocks = x.chunks_exact(AT_ONCE * inner);
        let rest = blocks.remainder();
        let (out_blocks, out_rest) = out.as_chunks_mut::<AT_ONCE>();
        for (x, out) in blocks.zip(out_blocks) {
            let (a, x) = x.split_at(inner);
            let (b, x) = x.split_at(inner);
            let (c, d) = x.split_at(inner);
            let mut lanes = [[0.0_f32; LANES]; AT_ONCE];
            let pairs = |x| <[f32]>::chunks_exact(x, LANES);
            let inputs = pairs(a).zip(pairs(b)).zip(pairs(c).zip(pairs(d)));
            for (w, ((a, b), (c, d))) in pairs(w).zip(inputs) {
                for (lanes, x) in lanes.iter_mut().zip([a, b, c, d]) {
                    for ((lane, x), w) in lanes.iter_mut().zip(x).zip(w) {
                        *lane += x * w;
                    }
                }
            }
            for ((out, lanes), x) in out.iter_mut().zip(lanes).zip([a, b, c, d]) {
                let tail = x[whole..].iter().zip(&w[whole..]).map(|(x, w)| x * w);
                *out = sum(lanes) + tail.sum::<f32>();
            }
        }
        for (x, out) in rest.chunks_exact(inner).zip(out_rest) {
            *out = long_dot(x, w);
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

/// sum += Σ x[k] · w[k, :], within one thread.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reference::{assert_near, noise};

    /// x `[rows, inner]` · w `[inner, cols]`.
    fn definition(x: &[f32], w: &[f32], (rows, inner, cols): (usize, usize, usize)) -> Vec<f32> {
        let at = |i: usize, j: usize| (0..inner).map(|k| x[i * inner + k] * w[k * cols + j]).sum();
        (0..rows * cols).map(|index| at(index / cols, index % cols)).collect()
    }

    fn transposed(w: &[f32], inner: usize, cols: usize) -> Vec<f32> {
        (0..cols * inner).map(|at| w[at % inner * cols + at / inner]).collect()
    }

    #[test]
    fn products_agree_with_the_definition() {
        for shape in [(1, 1, 1), (1, 200, 33), (3, 70, 300), (4, 129, 64), (11, 40, 600)] {
            let (rows, inner, cols) = shape;
            let (x, w) = (noise(rows * inner, 1), noise(inner * cols, 2));
            let expected = definition(&x, &w, shape);
            let turned = transposed(&w, inner, cols);
            let mut out = noise(rows * cols, 3);
            times_transposed(&x, &turned, rows, &mut out);
            assert_near(&out, &expected, 1e-5);
            adapter(&x, &turned, rows, &mut out);
            assert_near(&out, &expected, 1e-5);
            let mut sum = noise(cols, 4);
            let added: Vec<f32> = sum.iter().zip(&expected).map(|(a, b)| a + b).collect();
            combine(&x[..inner], &w, &mut sum);
            assert_near(&sum, &added, 1e-5);
        }
    }
}
