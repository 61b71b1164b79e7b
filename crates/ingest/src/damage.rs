//! Damage for tests: seeded, so that a failure is found again.

use rand::{Rng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

/// Bodies are cut to this before they are damaged, so that damage meets structure and time is short.
const LONGEST: usize = 6000;

/// What stands where something else is expected.
const WORDS: [&[u8]; 12] = [
    b"null",
    b"{}",
    b"[]",
    b"\"\"",
    b"-1",
    b"1e999",
    b"\\ud800",
    b"\xff",
    b"18446744073709551616",
    b"{\"a\":",
    b"\0\0\0\0",
    b"\n",
];

/// How many damaged copies of each body a test reads: `usual`, or what `UNDERSTUDY_MUTATIONS` says.
pub(crate) fn copies(usual: usize) -> usize {
    let asked = std::env::var("UNDERSTUDY_MUTATIONS").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or(usual)
}

/// A copy with a few bits, bytes and pieces changed, left out, put in and repeated.
pub(crate) fn damaged(body: &[u8], others: &[Vec<u8>], random: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = body[..body.len().min(LONGEST)].to_vec();
    for _ in 0..random.random_range(1..6) {
        let at = random.random_range(0..=bytes.len().saturating_sub(1));
        match random.random_range(0..7) {
            _ if bytes.is_empty() => bytes.push(random.random()),
            0 => bytes[at] ^= 1 << random.random_range(0..8),
            1 => bytes[at] = random.random(),
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..(at + random.random_range(0..40)).min(bytes.len()))),
            4 => {
                let word = WORDS[random.random_range(0..WORDS.len())];
                bytes.splice(at..at, word.iter().copied());
            }
            5 => {
                let other = others.choose(random).unwrap();
                let from = random.random_range(0..=other.len());
                let to = (from + random.random_range(0..200)).min(other.len());
                bytes.splice(at..at, other[from..to].iter().copied());
            }
            _ => {
                let end = (at + random.random_range(0..100)).min(bytes.len());
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
        }
    }
    bytes
}
