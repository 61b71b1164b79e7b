//! Which examples every step sees: each epoch all of them once, in a new seeded order.

use std::ops::Range;

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use understudy_ident::Digest;

/// The steps of one stage. It holds no random state: the order of an epoch follows from the seed
/// and the epoch's number alone, so a resumed run needs to remember only how far it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timeline {
    examples: usize,
    batch: usize,
    epochs: u32,
    seed: u64,
    /// Steps in a row that see the same examples.
    repeats: u64,
    /// At most so many different sets of them; 0 is no limit.
    most: u64,
}

impl Timeline {
    pub(crate) fn new(examples: usize, batch: usize, epochs: u32, seed: u64) -> Self {
        Self { examples, batch: batch.max(1), epochs, seed, repeats: 1, most: 0 }
    }

    /// Every set of examples for `iterations` steps, and at most `rounds` sets unless that is 0.
    pub(crate) fn repeating(self, iterations: u32, rounds: u64) -> Self {
        Self { repeats: u64::from(iterations.max(1)), most: rounds, ..self }
    }

    /// Whether `steps` steps end with a whole number of sets.
    pub(crate) fn is_at_rest(&self, steps: u64) -> bool {
        steps.is_multiple_of(self.repeats)
    }

    /// How many optimiser steps there are.
    pub(crate) fn steps(&self) -> u64 {
        let rounds = self.rounds_per_epoch() * u64::from(self.epochs);
        self.repeats * if self.most > 0 { rounds.min(self.most) } else { rounds }
    }

    /// The examples of a step, by index. The last step of an epoch takes what is left.
    pub(crate) fn members(&self, step: u64) -> Vec<usize> {
        let (round, per_epoch) = (step / self.repeats, self.rounds_per_epoch().max(1));
        let mut order = self.order(round / per_epoch);
        let part = self.part((round % per_epoch) as usize);
        order.drain(part).collect()
    }

    /// How many epochs were finished after `steps` steps, as a fraction.
    pub(crate) fn epoch(&self, steps: u64) -> f64 {
        steps as f64 / (self.repeats * self.rounds_per_epoch().max(1)) as f64
    }

    fn rounds_per_epoch(&self) -> u64 {
        self.examples.div_ceil(self.batch) as u64
    }

    fn part(&self, index: usize) -> Range<usize> {
        let start = (index * self.batch).min(self.examples);
        start..(start + self.batch).min(self.examples)
    }

    fn order(&self, epoch: u64) -> Vec<usize> {
        let parts: [&[u8]; 3] = [b"epoch order", &self.seed.to_le_bytes(), &epoch.to_le_bytes()];
        let mut random = ChaCha8Rng::from_seed(*Digest::of_parts(parts).as_bytes());
        let mut order: Vec<usize> = (0..self.examples).collect();
        order.shuffle(&mut random);
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_sees_every_example_once() {
        let timeline = Timeline::new(10, 4, 3, 7);
        assert_eq!(timeline.steps(), 9);
        for epoch in 0..3 {
            let mut seen: Vec<usize> =
                (0..3).flat_map(|step| timeline.members(3 * epoch + step)).collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..10).collect::<Vec<_>>());
        }
        assert_eq!(timeline.members(2).len(), 2);
    }

    #[test]
    fn the_order_depends_on_the_seed_and_the_epoch_and_nothing_else() {
        let order = |seed, step| Timeline::new(64, 64, 2, seed).members(step);
        assert_eq!(order(7, 0), order(7, 0));
        assert_ne!(order(7, 0), order(7, 1));
        assert_ne!(order(7, 0), order(8, 0));
    }

    #[test]
    fn no_examples_make_no_steps() {
        assert_eq!(Timeline::new(0, 8, 2, 1).steps(), 0);
    }
}
