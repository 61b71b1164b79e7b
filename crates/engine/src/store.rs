//! Adapter generations in memory, and which one each alias means.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use understudy_inference::{AdapterInfo, InferenceError};
use understudy_model::Lora;

/// One adapter's content, immutable, named by its digest. Requests hold it by `Arc`, so it lives
/// as long as its last request, whatever its alias means by then.
#[derive(Debug)]
pub(crate) struct Generation {
    /// Of the config's and the weights' bytes.
    pub(crate) digest: String,
    pub(crate) lora: Lora,
    pub(crate) directory: PathBuf,
}

/// Aliases and the generations they point at.
///
/// The lock is held for pointer swaps only: whoever publishes has loaded before, and whoever
/// resolves leaves with an `Arc`.
#[derive(Debug, Default)]
pub(crate) struct AdapterStore {
    aliases: Mutex<BTreeMap<String, Pointers>>,
}

#[derive(Debug)]
struct Pointers {
    current: Arc<Generation>,
    /// Kept resident, so that going back is a swap.
    previous: Option<Arc<Generation>>,
}

impl AdapterStore {
    /// The generation an alias means right now.
    pub(crate) fn resolve(&self, alias: &str) -> Result<Arc<Generation>, InferenceError> {
        let aliases = self.lock();
        let pointers = aliases.get(alias).ok_or_else(|| unknown(&aliases, alias))?;
        Ok(Arc::clone(&pointers.current))
    }

    /// Exactly this content, whatever it is called.
    pub(crate) fn resolve_generation(
        &self,
        digest: &str,
    ) -> Result<Arc<Generation>, InferenceError> {
        let aliases = self.lock();
        resident(&aliases, digest).ok_or_else(|| unknown(&aliases, digest))
    }

    /// Points an alias at a generation. Content that is resident already is shared, and publishing
    /// what the alias means anyway changes nothing.
    pub(crate) fn publish(&self, alias: &str, generation: Generation) -> AdapterInfo {
        let mut aliases = self.lock();
        let current =
            resident(&aliases, &generation.digest).unwrap_or_else(|| Arc::new(generation));
        let info = info(alias, &current);
        match aliases.get_mut(alias) {
            Some(pointers) if pointers.current.digest == current.digest => {}
            Some(pointers) => {
                pointers.previous = Some(std::mem::replace(&mut pointers.current, current));
            }
            None => {
                aliases.insert(alias.to_owned(), Pointers { current, previous: None });
            }
        }
        info
    }

    /// Swaps an alias back to the generation it meant before; doing it twice undoes it.
    pub(crate) fn rollback(&self, alias: &str) -> Result<AdapterInfo, InferenceError> {
        let mut aliases = self.lock();
        let Some(pointers) = aliases.get_mut(alias) else { return Err(unknown(&aliases, alias)) };
        let Some(previous) = pointers.previous.take() else {
            let why = "it has no earlier generation to go back to".to_owned();
            return Err(InferenceError::BadAdapter { alias: alias.to_owned(), why });
        };
        pointers.previous = Some(std::mem::replace(&mut pointers.current, previous));
        Ok(info(alias, &pointers.current))
    }

    pub(crate) fn unload(&self, alias: &str) -> Result<(), InferenceError> {
        let mut aliases = self.lock();
        match aliases.remove(alias) {
            Some(_) => Ok(()),
            None => Err(unknown(&aliases, alias)),
        }
    }

    pub(crate) fn list(&self) -> Vec<AdapterInfo> {
        let aliases = self.lock();
        aliases.iter().map(|(alias, pointers)| info(alias, &pointers.current)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Pointers>> {
        // Nothing panics while holding the lock, and a map of pointers has no halfway state.
        self.aliases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn resident(aliases: &BTreeMap<String, Pointers>, digest: &str) -> Option<Arc<Generation>> {
    let all = aliases
        .values()
        .flat_map(|pointers| std::iter::once(&pointers.current).chain(pointers.previous.as_ref()));
    all.into_iter().find(|generation| generation.digest == digest).cloned()
}

fn info(alias: &str, generation: &Generation) -> AdapterInfo {
    AdapterInfo {
        alias: alias.to_owned(),
        generation: generation.digest.clone(),
        rank: generation.lora.rank(),
        bytes: size_of_val(generation.lora.values()) as u64,
        directory: generation.directory.display().to_string(),
        resident: true,
        ..AdapterInfo::default()
    }
}

fn unknown(aliases: &BTreeMap<String, Pointers>, alias: &str) -> InferenceError {
    let names: Vec<&str> = aliases.keys().map(String::as_str).collect();
    let loaded = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    InferenceError::UnknownAdapter { alias: alias.to_owned(), loaded }
}

#[cfg(test)]
mod tests {
    use understudy_model::{Family, LoraSpec, ModelConfig};

    use super::*;

    fn generation(digest: &str) -> Generation {
        let config = ModelConfig::tiny(Family::Llama);
        let lora = Lora::init(&config, &LoraSpec::standard(), 0).unwrap();
        Generation { digest: digest.to_owned(), lora, directory: PathBuf::from("somewhere") }
    }

    fn meaning(store: &AdapterStore, alias: &str) -> String {
        store.resolve(alias).unwrap().digest.clone()
    }

    #[test]
    fn a_lease_outlives_swap_rollback_and_unload() {
        let store = AdapterStore::default();
        store.publish("a", generation("one"));
        let lease = store.resolve("a").unwrap();
        store.publish("a", generation("two"));
        assert_eq!(meaning(&store, "a"), "two");
        store.publish("a", generation("three"));
        store.unload("a").unwrap();
        assert_eq!(lease.digest, "one");
        assert_eq!(Arc::strong_count(&lease), 1, "only the lease keeps it alive");
    }

    #[test]
    fn rollback_swaps_and_swaps_back() {
        let store = AdapterStore::default();
        store.publish("a", generation("one"));
        assert!(matches!(store.rollback("a"), Err(InferenceError::BadAdapter { .. })));
        store.publish("a", generation("two"));
        assert_eq!(store.rollback("a").unwrap().generation, "one");
        assert_eq!(meaning(&store, "a"), "one");
        assert_eq!(store.rollback("a").unwrap().generation, "two");
        assert!(matches!(store.rollback("b"), Err(InferenceError::UnknownAdapter { .. })));
    }

    #[test]
    fn the_same_content_is_held_once_and_loading_it_again_changes_nothing() {
        let store = AdapterStore::default();
        store.publish("a", generation("one"));
        store.publish("a", generation("two"));
        store.publish("a", generation("two"));
        assert_eq!(store.rollback("a").unwrap().generation, "one", "history is untouched");
        store.publish("b", generation("two"));
        let (two, a) = (store.resolve("b").unwrap(), store.rollback("a").unwrap());
        assert_eq!(a.generation, "two");
        assert!(Arc::ptr_eq(&two, &store.resolve("a").unwrap()));
    }

    #[test]
    fn an_unknown_alias_is_an_error_that_lists_the_known() {
        let store = AdapterStore::default();
        assert!(store.resolve("a").unwrap_err().to_string().contains("loaded: none"));
        store.publish("x", generation("one"));
        store.publish("y", generation("two"));
        assert!(store.resolve("a").unwrap_err().to_string().contains("loaded: x, y"));
        assert!(store.unload("a").is_err());
        assert_eq!(store.list().len(), 2);
    }
}
