//! Meaning compared through vectors, whatever makes them.

use std::fmt;

/// Turns texts into vectors. A model implements it elsewhere; this crate brings none.
pub trait Embedder: fmt::Debug + Send + Sync {
    /// What makes the vectors, so that a report can name it.
    fn id(&self) -> &str;

    /// One vector per text, all of one length, or why there are none.
    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, String>;
}

/// The cosine of two texts' vectors, cut to 0 where they point apart.
pub fn similarity(embedder: &dyn Embedder, a: &str, b: &str) -> Result<f64, String> {
    let vectors = embedder.embed(&[a, b])?;
    let [a, b] = vectors.as_slice() else {
        return Err(format!("`{}` gave {} vectors for 2 texts", embedder.id(), vectors.len()));
    };
    cosine(a, b)
        .map(|cosine| cosine.max(0.0))
        .ok_or_else(|| format!("`{}` gave vectors that cannot be compared", embedder.id()))
}

/// `a·b / (|a||b|)`; none for vectors of different lengths, of length 0, or not finite.
pub fn cosine(a: &[f32], b: &[f32]) -> Option<f64> {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    let cosine = dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
    (a.len() == b.len() && cosine.is_finite()).then_some(cosine)
}
