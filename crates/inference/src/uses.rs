//! How many requests are in flight under each alias.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Counts them. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Uses(Arc<Mutex<BTreeMap<String, usize>>>);

/// One request's, until it is dropped.
#[derive(Debug)]
pub struct Use {
    uses: Uses,
    alias: String,
}

impl Uses {
    /// Begun before it is known what the alias means, so that who takes the alias away and then
    /// counts misses nobody.
    pub fn begin(&self, alias: &str) -> Use {
        *self.counts().entry(alias.to_owned()).or_default() += 1;
        Use { uses: self.clone(), alias: alias.to_owned() }
    }

    /// Requests of this alias, whatever content they hold.
    pub fn of(&self, alias: &str) -> usize {
        self.counts().get(alias).copied().unwrap_or_default()
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clone for Use {
    fn clone(&self) -> Self {
        self.uses.begin(&self.alias)
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        let mut counts = self.uses.counts();
        if let Some(count) = counts.get_mut(&self.alias) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.alias);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_use_counts_until_it_is_dropped_and_nothing_is_left_of_it() {
        let uses = Uses::default();
        let (one, other) = (uses.begin("a"), uses.begin("b"));
        let again = one.clone();
        assert_eq!((uses.of("a"), uses.of("b"), uses.of("c")), (2, 1, 0));
        drop(one);
        assert_eq!(uses.of("a"), 1);
        drop((again, other));
        assert!(uses.counts().is_empty());
    }
}
