//! Things that belong together because each is tied to another of them.

use std::collections::BTreeMap;

/// A union of sets, each named by its first member.
#[derive(Debug)]
pub(crate) struct Components(Vec<usize>);

impl Components {
    /// Everything apart.
    pub(crate) fn apart(count: usize) -> Self {
        Self((0..count).collect())
    }

    pub(crate) fn first(&mut self, mut nth: usize) -> usize {
        while self.0[nth] != nth {
            self.0[nth] = self.0[self.0[nth]];
            nth = self.0[nth];
        }
        nth
    }

    pub(crate) fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.first(a), self.first(b));
        self.0[a.max(b)] = a.min(b);
    }

    pub(crate) fn are_joined(&mut self, a: usize, b: usize) -> bool {
        self.first(a) == self.first(b)
    }

    /// For each the first of its set.
    pub(crate) fn firsts(mut self) -> Vec<usize> {
        (0..self.0.len()).map(|nth| self.first(nth)).collect()
    }
}

/// How many members each set has, by its first.
pub(crate) fn sizes(firsts: impl Iterator<Item = usize>) -> BTreeMap<usize, usize> {
    let mut sizes = BTreeMap::new();
    for first in firsts {
        *sizes.entry(first).or_default() += 1;
    }
    sizes
}
