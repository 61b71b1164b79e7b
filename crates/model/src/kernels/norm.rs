//! RMS normalisation: y = x · w / √(mean(x²) + ε).

use multiversion::multiversion;

use super::{for_row_bands, simd::dot};

/// Normalises every row of x into out, both `[rows, w.len()]`.
pub(crate) fn rms_norm(x: &[f32], w: &[f32], eps: f32, out: &mut [f32]) {
    let width = w.len();
    for_row_bands(out, width, |first, out| {
        forward(&x[first * width..][..out.len()], w, eps, out);
    });
}

/// Adds the gradient with respect to x to `onto`:
/// dx = r · (g − x · r² · mean(g · x)), g = dy · w, r = 1 / √(mean(x²) + ε).
pub(crate) fn rms_norm_backward(x: &[f32], w: &[f32], eps: f32, dy: &[f32], onto: &mut [f32]) {
    let width = w.len();
    for_row_bands(onto, width, |first, onto| {
        let rows = first * width..first * width + onto.len();
        backward(&x[rows.clone()], w, eps, &dy[rows], onto);
    });
}

#[multiversion(targets = "simd")]
fn forward(x: &[f32], w: &[f32], eps: f32, out: &mut [f32]) {
    let width = w.len();
    for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
        let r = 1.0 / (dot(x, x) / width as f32 + eps).sqrt();
        for ((out, x), w) in out.iter_mut().zip(x).zip(w) {
            *out = x * r * w;
        }
    }
}

#[multiversion(targets = "simd")]
fn backward(x: &[f32], w: &[f32], eps: f32, dy: &[f32], onto: &mut [f32]) {
    let width = w.len();
    let mut g = vec![0.0; width];
    let rows = x.chunks_exact(width).zip(dy.chunks_exact(width));
    for ((x, dy), onto) in rows.zip(onto.chunks_exact_mut(width)) {
        for ((g, dy), w) in g.iter_mut().zip(dy).zip(w) {
            *g = dy * w;
        }
        let r = 1.0 / (dot(x, x) / width as f32 + eps).sqrt();
        let shift = dot(&g, x) / width as f32 * r * r;
        for ((onto, g), x) in onto.iter_mut().zip(&g).zip(x) {
            *onto += r * (g - x * shift);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reference::{assert_near, differences, noise};

    const EPS: f32 = 1e-5;

    fn definition(x: &[f64], w: &[f32]) -> Vec<f64> {
        let rows = x.chunks_exact(w.len()).map(|row| {
            let mean = row.iter().map(|x| x * x).sum::<f64>() / row.len() as f64;
            let r = 1.0 / (mean + f64::from(EPS)).sqrt();
            row.iter().zip(w).map(move |(x, w)| x * r * f64::from(*w)).collect::<Vec<f64>>()
        });
        rows.flatten().collect()
    }

    #[test]
    fn forward_and_backward_agree_with_the_definition() {
        for (rows, width) in [(1, 1), (3, 7), (5, 64), (2, 100)] {
            let (x, w, dy) = (noise(rows * width, 1), noise(width, 2), noise(rows * width, 3));
            let mut out = vec![0.0; x.len()];
            rms_norm(&x, &w, EPS, &mut out);
            let wide: Vec<f64> = x.iter().copied().map(f64::from).collect();
            let expected: Vec<f32> = definition(&wide, &w).iter().map(|y| *y as f32).collect();
            assert_near(&out, &expected, 1e-5);

            let mut onto = noise(x.len(), 4);
            let gradient = differences(&x, &dy, |x| definition(x, &w));
            let expected: Vec<f32> = onto.iter().zip(&gradient).map(|(a, b)| a + b).collect();
            rms_norm_backward(&x, &w, EPS, &dy, &mut onto);
            assert_near(&onto, &expected, 1e-4);
        }
    }

    #[test]
    fn many_rows_in_parallel_equal_one_at_a_time() {
        let (x, w) = (noise(700 * 64, 1), noise(64, 2));
        let mut all = vec![0.0; x.len()];
        rms_norm(&x, &w, EPS, &mut all);
        let mut one = vec![0.0; 64];
        for (x, all) in x.chunks_exact(64).zip(all.chunks_exact(64)) {
            rms_norm(x, &w, EPS, &mut one);
            assert_eq!(one, all);
        }
    }
}
