use std::{
    sync::{Barrier, mpsc},
    thread,
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use understudy_inference::Attempt;

use super::*;

fn register(store: &Store, alias: &str, directory: &str, digest: &str) {
    let change = Change { on_demand: true, ..change(alias) };
    store.register(&change, PathBuf::from(directory), digest).unwrap();
}

#[test]
fn many_who_ask_at_once_cause_one_read_and_get_the_same() {
    let shelf = shelf(&["a1"]);
    let store = store_over(&shelf, 100, 8);
    register(&store, "a", "a1", "a1");
    assert!(!info(&store, "a").resident);
    let start = Barrier::new(8);
    let leases: Vec<_> = thread::scope(|scope| {
        let ask = || {
            start.wait();
            store.resolve("a").unwrap()
        };
        let askers: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        askers.into_iter().map(|asker| asker.join().unwrap()).collect()
    });
    assert!(leases.iter().all(|lease| Arc::ptr_eq(lease, &leases[0])));
    assert_eq!(shelf.reads.load(SeqCst), 1);
    let tally = store.tally();
    assert_eq!((tally.hits + tally.misses, tally.resident), (8, 1));
    assert!(tally.misses >= 1 && info(&store, "a").rank == 4);
}

#[test]
fn what_cannot_be_read_is_not_tried_again_at_once_and_is_tried_again_later() {
    let shelf = shelf(&[]);
    let store = store_over(&shelf, 100, 8);
    register(&store, "a", "a1", "a1");
    for _ in 0..5 {
        assert!(store.resolve("a").unwrap_err().to_string().contains("there is no a1"));
    }
    assert_eq!(shelf.reads.load(SeqCst), 1);
    thread::sleep(Duration::from_millis(1_050));
    let Some(Attempt::Failed(why)) = store.attempts().remove("a") else { panic!("it failed") };
    assert!(why.contains("there is no a1"), "{why}");
    shelf.content.lock().unwrap().insert("a1".into(), ("a1".to_owned(), 10));
    assert_eq!(meaning(&store, "a"), "a1");
    assert!(store.attempts().is_empty(), "nothing is wrong any more");
    // Publishing forgives at once.
    register(&store, "b", "b1", "b1");
    assert!(store.resolve("b").is_err());
    publish(&store, "b", "b2");
    assert_eq!(meaning(&store, "b"), "b2");
}

#[test]
fn a_directory_that_changed_is_refused_and_not_served() {
    let shelf = shelf(&["a1"]);
    let store = store_over(&shelf, 100, 8);
    register(&store, "a", "a1", "a1");
    shelf.content.lock().unwrap().insert("a1".into(), ("other".to_owned(), 10));
    let error = store.resolve("a").unwrap_err().to_string();
    assert!(error.contains("holds generation other now, not a1"), "{error}");
    assert_eq!(store.tally().resident, 0);
}

#[test]
fn a_read_that_panics_leaves_nobody_waiting() {
    struct Falling;
    impl Source<u64> for Falling {
        fn read(&self, _: &str, _: &Path, _: Patience) -> Result<Generation<u64>, InferenceError> {
            panic!("the disk is gone");
        }
    }
    let store = Store::new(Box::new(Falling), Limits { bytes: 100, resident: 8, asking: 8 });
    register(&store, "a", "a1", "a1");
    thread::scope(|scope| {
        for _ in 0..4 {
            let asker = scope.spawn(|| store.resolve("a").is_ok());
            assert!(asker.join().is_err(), "it panicked, and the next one got to try");
        }
    });
    publish(&store, "a", "a2");
    assert_eq!(meaning(&store, "a"), "a2");
}

/// Reads when it is told that it may.
struct Slow(Mutex<mpsc::Receiver<()>>);

impl Source<u64> for Slow {
    fn read(&self, _: &str, _: &Path, _: Patience) -> Result<Generation<u64>, InferenceError> {
        self.0.lock().unwrap().recv().unwrap();
        Ok(generation("a1"))
    }
}

#[test]
fn who_waits_for_a_read_gives_up_in_time_and_only_so_many_wait() {
    let (may_read, told) = mpsc::channel();
    let limits = Limits { bytes: 100, resident: 8, asking: 2 };
    let store = Store::new(Box::new(Slow(Mutex::new(told))), limits);
    register(&store, "a", "a1", "a1");
    let ask = |most: u64| {
        let most = Duration::from_millis(most);
        store.resolve_alias("a", Patience::new(Instant::now(), Some(most)))
    };
    thread::scope(|scope| {
        let reader = scope.spawn(|| store.resolve("a"));
        while store.attempts().is_empty() {
            thread::yield_now();
        }
        assert_eq!(ask(20).unwrap_err(), InferenceError::TimedOut(20));
        let waiter = scope.spawn(|| ask(60_000));
        while store.asking.count() < 2 {
            thread::yield_now();
        }
        assert_eq!(ask(60_000).unwrap_err(), InferenceError::Busy(2));
        may_read.send(()).unwrap();
        let (read, waited) = (reader.join().unwrap().unwrap(), waiter.join().unwrap().unwrap());
        assert!(Arc::ptr_eq(&read, &waited));
    });
    assert_eq!(store.asking.count(), 0);
    assert!(ask(0).is_ok(), "what is in memory needs no patience");
}

#[test]
fn more_than_fits_takes_turns() {
    let shelf = shelf(&["a1", "b1", "c1"]);
    let store = store_over(&shelf, 20, 8);
    for (alias, digest) in [("a", "a1"), ("b", "b1"), ("c", "c1")] {
        register(&store, alias, digest, digest);
    }
    for round in 0..3 {
        for (alias, digest) in [("a", "a1"), ("b", "b1"), ("c", "c1")] {
            assert_eq!(meaning(&store, alias), digest, "round {round}");
            assert!(store.tally().bytes <= 20);
        }
    }
    assert_eq!(store.list().iter().filter(|info| info.resident).count(), 2);
}

/// The share of hits over 4 000 requests for a thousand adapters, number n in proportion to
/// 1/(n + 1).
fn hit_rate(resident: usize) -> f64 {
    const REGISTERED: usize = 1_000;
    let names: Vec<String> = (0..REGISTERED).map(|n| format!("g{n}")).collect();
    let shelf = shelf(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let store = store_over(&shelf, 1 << 20, resident);
    for name in &names {
        register(&store, name, name, name);
    }
    let mut random = ChaCha8Rng::seed_from_u64(1);
    for _ in 0..4_000 {
        let uniform: f64 = random.random_range(0.0..1.0);
        let number = (REGISTERED as f64 + 1.0).powf(uniform) - 1.0;
        store.resolve(&names[number as usize % REGISTERED]).unwrap();
    }
    let tally = store.tally();
    assert_eq!(tally.resident, resident.min(REGISTERED));
    tally.hits as f64 / (tally.hits + tally.misses) as f64
}

#[test]
fn fewer_places_cost_hits_by_and_by_and_there_is_no_cliff() {
    let rates = [128, 64, 32].map(hit_rate);
    assert!(rates[1] > 0.4, "{rates:?}");
    for pair in rates.windows(2) {
        assert!(pair[1] < pair[0] && pair[1] > 0.6 * pair[0], "{rates:?}");
    }
}
