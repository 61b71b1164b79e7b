//! Seeded chance. Source of the generator: Steele, Lea and Flood, "Fast Splittable Pseudorandom
//! Number Generators" (2014).

/// Draws that repeat for equal seeds.
#[derive(Debug, Clone)]
pub struct Draw {
    state: u64,
}

impl Draw {
    /// Of a seed and whatever tells two uses of it apart.
    pub fn new(seed: u64, what: &str) -> Self {
        let mut first = [0; 8];
        let hash = blake3::hash(format!("{seed} {what}").as_bytes());
        first.copy_from_slice(&hash.as_bytes()[..8]);
        Self { state: u64::from_le_bytes(first) }
    }

    /// In [0, 1).
    pub fn share(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as f64 / 2.0_f64.powi(64)
    }

    pub fn chance(&mut self, p: f64) -> bool {
        self.share() < p
    }

    pub fn below(&mut self, n: usize) -> usize {
        ((self.share() * n as f64) as usize).min(n.saturating_sub(1))
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}
