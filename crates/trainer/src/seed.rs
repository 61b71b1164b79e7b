//! Seeds that follow from the stage's own: a resumed step draws what it would have drawn.

use understudy_ident::Digest;

/// The seed of one purpose at one step.
pub(crate) fn of_step(purpose: &str, seed: u64, step: u64) -> u64 {
    let parts: [&[u8]; 3] = [purpose.as_bytes(), &seed.to_le_bytes(), &step.to_le_bytes()];
    let digest = Digest::of_parts(parts);
    let (words, _) = digest.as_bytes().as_chunks();
    words.first().map_or(seed, |word| u64::from_le_bytes(*word))
}
