//! The store alone: its content is numbers, and reading is looking one up.

mod durability;
mod on_demand;
mod properties;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use understudy_inference::Expected;

use super::*;

type Store = AdapterStore<u64>;

impl Store {
    fn resolve(&self, alias: &str) -> Result<Arc<Generation<u64>>, InferenceError> {
        self.resolve_alias(alias, Patience::endless())
    }
}

/// What a directory holds, and how often somebody looked.
#[derive(Default)]
struct Shelf {
    content: Mutex<BTreeMap<PathBuf, (String, u64)>>,
    reads: AtomicUsize,
}

impl Source<u64> for Arc<Shelf> {
    fn read(
        &self,
        alias: &str,
        directory: &Path,
        _: Patience,
    ) -> Result<Generation<u64>, InferenceError> {
        self.reads.fetch_add(1, SeqCst);
        std::thread::yield_now();
        let content = self.content.lock().unwrap();
        let (digest, bytes) = content.get(directory).ok_or_else(|| {
            let why = format!("there is no {}", directory.display());
            InferenceError::BadAdapter { alias: alias.to_owned(), why }
        })?;
        Ok(Generation { bytes: *bytes, ..generation(digest) })
    }
}

fn generation(digest: &str) -> Generation<u64> {
    let directory = Some(PathBuf::from(digest));
    // The number in its name, so that content and name can be seen to belong together.
    let content = digest.trim_start_matches(char::is_alphabetic).parse().unwrap_or(0);
    Generation { digest: digest.to_owned(), directory, rank: 4, bytes: 10, content }
}

fn shelf(digests: &[&str]) -> Arc<Shelf> {
    let entry = |digest: &&str| (PathBuf::from(digest), ((*digest).to_owned(), 10));
    Arc::new(Shelf { content: Mutex::new(digests.iter().map(entry).collect()), ..Shelf::default() })
}

fn store(bytes: u64, resident: usize) -> Store {
    store_over(&shelf(&["a1", "a2", "a3", "b1", "b2", "c1", "c2"]), bytes, resident)
}

fn store_over(shelf: &Arc<Shelf>, bytes: u64, resident: usize) -> Store {
    AdapterStore::new(Box::new(Arc::clone(shelf)), Limits { bytes, resident, asking: 64 })
}

fn change(alias: &str) -> Change<'_> {
    let expected = &Expected::Anything;
    Change { alias, expected, pinned: false, on_demand: false, expires: None, keep: 1 }
}

fn publish(store: &Store, alias: &str, digest: &str) -> Published {
    store.publish(&change(alias), Arc::new(generation(digest))).unwrap()
}

fn meaning(store: &Store, alias: &str) -> String {
    store.resolve(alias).unwrap().digest.clone()
}

fn info(store: &Store, alias: &str) -> AdapterInfo {
    store.list().into_iter().find(|info| info.alias == alias).unwrap()
}

#[test]
fn a_lease_outlives_swap_rollback_and_unload_and_nothing_else_does() {
    let store = store(100, 8);
    publish(&store, "a", "a1");
    let lease = store.resolve("a").unwrap();
    assert_eq!((info(&store, "a").leases, store.tally().bytes), (1, 10));
    publish(&store, "a", "a2");
    publish(&store, "a", "a3");
    assert_eq!(store.tally().bytes, 30, "the leased first one is counted though nothing means it");
    let unleased = Arc::downgrade(&store.resident("a2").unwrap());
    store.unload("a", &Expected::Anything).unwrap();
    assert_eq!((lease.digest.as_str(), lease.content), ("a1", 1));
    assert!(unleased.upgrade().is_none());
    assert_eq!((store.tally().resident, store.tally().bytes), (1, 10));
    let last = Arc::downgrade(&lease);
    drop(lease);
    assert!(last.upgrade().is_none());
    assert_eq!((store.tally().resident, store.tally().bytes), (0, 0));
}

#[test]
fn rollback_goes_one_back_or_to_a_named_one_and_twice_is_where_it_was() {
    let store = store(100, 8);
    publish(&store, "a", "a1");
    assert!(matches!(store.rollback("a", None), Err(InferenceError::BadAdapter { .. })));
    for digest in ["a2", "a3"] {
        store.publish(&Change { keep: 3, ..change("a") }, Arc::new(generation(digest))).unwrap();
    }
    assert_eq!(info(&store, "a").previous, ["a2", "a1"]);
    let rolled = store.rollback("a", None).unwrap();
    assert_eq!((rolled.info.generation.as_str(), rolled.replaced.as_deref()), ("a2", Some("a3")));
    store.rollback("a", None).unwrap();
    assert_eq!(
        (meaning(&store, "a").as_str(), info(&store, "a").previous[0].as_str()),
        ("a3", "a2")
    );
    assert_eq!(store.rollback("a", Some("a1")).unwrap().info.generation, "a1");
    assert_eq!(info(&store, "a").previous, ["a3", "a2"]);
    assert_eq!(store.rollback("a", Some("a1")).unwrap().replaced, None, "it means that already");
    let error = store.rollback("a", Some("b1")).unwrap_err().to_string();
    assert!(error.contains("b1 is not among those it keeps"), "{error}");
    assert!(matches!(store.rollback("b", None), Err(InferenceError::UnknownAdapter { .. })));
}

#[test]
fn the_same_content_is_held_once_and_loading_it_again_changes_nothing() {
    let store = store(100, 8);
    publish(&store, "a", "a1");
    assert_eq!(publish(&store, "a", "a2").replaced.as_deref(), Some("a1"));
    assert_eq!(publish(&store, "a", "a2").replaced, None);
    assert_eq!(info(&store, "a").previous, ["a1"], "history is untouched");
    publish(&store, "b", "a2");
    let (a, b) = (store.resolve("a").unwrap(), store.resolve("b").unwrap());
    assert!(Arc::ptr_eq(&a, &b));
    assert_eq!((store.tally().resident, info(&store, "a").leases), (2, 2));
    // Content that only a request holds is shared with it when it is published again.
    store.unload("a", &Expected::Anything).unwrap();
    store.unload("b", &Expected::Anything).unwrap();
    publish(&store, "c", "a2");
    assert!(Arc::ptr_eq(&a, &store.resolve("c").unwrap()));
    assert_eq!(store.tally().bytes, 10);
}

#[test]
fn a_change_under_a_condition_that_does_not_hold_changes_nothing() {
    let store = store(100, 8);
    let attempt = |expected: Expected, digest: &str| {
        let change = Change { expected: &expected, ..change("a") };
        store.publish(&change, Arc::new(generation(digest)))
    };
    let error = attempt(Expected::Generation("a1".into()), "a2").unwrap_err();
    assert!(error.to_string().contains("`a` is free, not generation a1"), "{error}");
    attempt(Expected::Nothing, "a1").unwrap();
    let error = attempt(Expected::Nothing, "a2").unwrap_err();
    assert!(error.to_string().contains("is generation a1, not free"), "{error}");
    attempt(Expected::Generation("a1".into()), "a2").unwrap();
    let stale = Expected::Generation("a1".into());
    assert!(matches!(store.unload("a", &stale), Err(InferenceError::AdapterChanged { .. })));
    assert_eq!(meaning(&store, "a"), "a2");
    store.unload("a", &Expected::Generation("a2".into())).unwrap();
    assert!(store.list().is_empty());
}

#[test]
fn the_least_used_leaves_unless_it_is_leased_or_pinned() {
    let store = store(100, 3);
    publish(&store, "a", "a1");
    store.publish(&Change { pinned: true, ..change("b") }, Arc::new(generation("b1"))).unwrap();
    publish(&store, "c", "c1");
    let lease = store.resolve("a").unwrap();
    publish(&store, "d", "c2");
    let resident = |alias| info(&store, alias).resident;
    assert_eq!(["a", "b", "c", "d"].map(resident), [true, true, false, true]);
    let held = store.resolve("d").unwrap();
    let error = store.publish(&change("e"), Arc::new(generation("b2"))).unwrap_err();
    assert!(matches!(error, InferenceError::AdaptersFull { .. }), "{error}");
    assert!(error.to_string().contains("30 of 100 bytes and 3 of 3 places"), "{error}");
    assert!(store.resolve("e").is_err(), "the alias was not touched");
    drop((lease, held));
    publish(&store, "e", "b2");
    assert_eq!(["a", "b", "e"].map(resident), [false, true, true]);
    assert_eq!(meaning(&store, "c"), "c1", "what has left is read when it is asked for");
}

#[test]
fn earlier_generations_leave_before_current_ones_and_the_oldest_first() {
    let store = store(40, 8);
    for digest in ["a1", "a2", "a3"] {
        store.publish(&Change { keep: 2, ..change("a") }, Arc::new(generation(digest))).unwrap();
    }
    publish(&store, "b", "b1");
    publish(&store, "c", "c1");
    assert_eq!(info(&store, "a").previous, ["a2"], "what went cannot be gone back to");
    assert!(store.list().iter().all(|info| info.resident));
    // A swap needs room for both: here everything else has to go, and then it is too much.
    let all = store.resolve("b").unwrap();
    let big = Generation { bytes: 30, ..generation("c2") };
    assert!(store.publish(&change("c"), Arc::new(big)).is_err());
    assert_eq!(meaning(&store, "c"), "c1");
    assert!(store.list().iter().all(|info| info.resident), "a load that fails evicts nobody");
    drop(all);
}

#[test]
fn a_generation_is_found_by_name_while_it_is_in_memory() {
    let store = store(100, 8);
    publish(&store, "a", "a1");
    publish(&store, "a", "a2");
    let old = store.resolve_generation("a1").unwrap();
    assert_eq!((old.alias.as_str(), old.generation.digest.as_str()), ("a", "a1"));
    let choice = AdapterChoice::Generation("a3".to_owned());
    let error = store.resolve_choice(&choice, Patience::endless()).unwrap_err();
    assert!(error.to_string().contains("of generation a3"), "{error}");
}

#[test]
fn requests_that_belong_together_get_one_generation() {
    let store = store(100, 8);
    publish(&store, "a", "a1");
    let mut together = store.together();
    let choice = AdapterChoice::Alias("a".to_owned());
    let first = together.resolve(&choice, Patience::endless()).unwrap();
    publish(&store, "a", "a2");
    assert!(Arc::ptr_eq(
        &first.generation,
        &together.resolve(&choice, Patience::endless()).unwrap().generation
    ));
    assert_eq!(meaning(&store, "a"), "a2");
}

#[test]
fn an_unknown_alias_is_an_error_that_lists_the_known() {
    let store = store(100, 8);
    assert!(store.resolve("x").unwrap_err().to_string().contains("loaded: none"));
    publish(&store, "a", "a1");
    publish(&store, "b", "b1");
    assert!(store.resolve("x").unwrap_err().to_string().contains("loaded: a, b"));
    assert!(store.unload("x", &Expected::Anything).is_err());
}
