//! Text as vectors: what retrieval by meaning asks for, without saying how it is done.

use std::fmt;

use crate::InferenceError;

/// Something that places texts so that those of one meaning lie close together.
pub trait Embedder: Send + Sync + fmt::Debug {
    /// Names the exact weights and pooling: vectors of different names are never compared.
    fn name(&self) -> &str;

    /// How long every vector is.
    fn dimensions(&self) -> usize;

    /// One vector a text, in order, each of unit length: a dot product is a cosine.
    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, InferenceError>;
}

/// An embedder without a model: words and their letter trigrams, hashed into a vector.
///
/// It knows spelling and nothing of meaning ("refund" is close to "refunded", far from "money
/// back"). It is for machines without a sentence model and for tests; its name says what it is.
/// Source of the signed hashing: Weinberger et al., "Feature Hashing for Large Scale Multitask
/// Learning" (2009).
#[derive(Debug, Clone, Copy, Default)]
pub struct HashingEmbedder;

impl HashingEmbedder {
    pub const DIMENSIONS: usize = 384;
    /// A whole word says more than a piece of one.
    const WORD: f32 = 1.0;
    const TRIGRAM: f32 = 0.3;

    fn vector(text: &str) -> Vec<f32> {
        let mut vector = vec![0.0_f32; Self::DIMENSIONS];
        let mut add = |feature: &[u8], weight: f32| {
            let hash = fnv(feature);
            let sign = if hash >> 63 == 0 { 1.0 } else { -1.0 };
            vector[hash as usize % Self::DIMENSIONS] += sign * weight;
        };
        for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
            let word = format!(" {} ", word.to_lowercase());
            add(word.as_bytes(), Self::WORD);
            let letters: Vec<char> = word.chars().collect();
            for trigram in letters.windows(3) {
                add(trigram.iter().collect::<String>().as_bytes(), Self::TRIGRAM);
            }
        }
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        if length > 0.0 {
            for x in &mut vector {
                *x /= length;
            }
        }
        vector
    }
}

impl Embedder for HashingEmbedder {
    fn name(&self) -> &'static str {
        "hashing@1"
    }

    fn dimensions(&self) -> usize {
        Self::DIMENSIONS
    }

    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, InferenceError> {
        Ok(texts.iter().map(|text| Self::vector(text)).collect())
    }
}

/// FNV-1a with a final mix: short features differ in all bits.
fn fnv(bytes: &[u8]) -> u64 {
    let folded = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (folded ^ (folded >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cosine(a: &str, b: &str) -> f32 {
        let vectors = HashingEmbedder.embed(&[a, b]).unwrap();
        vectors[0].iter().zip(&vectors[1]).map(|(x, y)| x * y).sum()
    }

    #[test]
    fn spelling_decides_and_length_is_one() {
        assert!((cosine("refund the order", "Refund, the ORDER!") - 1.0).abs() < 1e-5);
        let close = cosine("refund the order", "the order was refunded");
        let far = cosine("refund the order", "what is the weather like");
        assert!(close > far + 0.2, "{close} {far}");
        assert_eq!(HashingEmbedder.embed(&[""]).unwrap()[0], vec![0.0; 384]);
    }
}
