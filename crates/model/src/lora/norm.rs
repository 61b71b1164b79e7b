//! Euclidean norms, in f64.

use multiversion::multiversion;

pub(crate) fn norm(values: &[f32]) -> f64 {
    // Several sums side by side, since each waits for its last addition.
    let (chunks, rest) = values.as_chunks::<16>();
    let rest = rest.iter().map(|value| f64::from(*value).powi(2));
    squares(chunks).into_iter().chain(rest).sum::<f64>().sqrt()
}

#[multiversion(targets = "simd")]
fn squares(chunks: &[[f32; 16]]) -> [f64; 16] {
    let mut sums = [0.0; 16];
    for chunk in chunks {
        for (sum, value) in sums.iter_mut().zip(chunk) {
            *sum += f64::from(*value) * f64::from(*value);
        }
    }
    sums
}
