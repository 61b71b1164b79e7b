//! Random operations, one after the other and at once, under the promises the store makes.

use std::{collections::BTreeSet, sync::atomic::AtomicBool, thread};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

const ALIASES: [&str; 4] = ["a", "b", "c", "d"];
const DIGESTS: usize = 12;
const BYTES: u64 = 60;
const RESIDENT: usize = 5;

/// Content number n, of a size of its own.
fn numbered(n: usize) -> Generation<u64> {
    let digest = format!("g{n}");
    let directory = Some(PathBuf::from(&digest));
    Generation { digest, directory, rank: 1, bytes: 5 + n as u64, content: n as u64 }
}

fn all_numbers() -> Arc<Shelf> {
    let entry = |n| (PathBuf::from(format!("g{n}")), (format!("g{n}"), 5 + n as u64));
    let content = Mutex::new((0..DIGESTS).map(entry).collect());
    Arc::new(Shelf { content, ..Shelf::default() })
}

/// One random change. What it is refused for is not of interest here, only what holds afterwards.
fn disturb(store: &Store, random: &mut ChaCha8Rng, published: &mut BTreeSet<String>) {
    let alias = ALIASES[random.random_range(0..ALIASES.len())];
    let n = random.random_range(0..DIGESTS);
    let (pinned, keep) = (random.random_bool(0.1), random.random_range(0..3));
    let change = Change { pinned, keep, ..change(alias) };
    match random.random_range(0..6) {
        0..3 => {
            published.insert(format!("{alias} g{n}"));
            let _refused = store.publish(&change, Arc::new(numbered(n)));
        }
        3 => {
            published.insert(format!("{alias} g{n}"));
            let _refused = store.register(&change, format!("g{n}").into(), &format!("g{n}"));
        }
        4 => {
            let before = store.list();
            if store.rollback(alias, None).is_ok() {
                let kept = |list: Vec<AdapterInfo>| -> Vec<_> {
                    let durable = |info: AdapterInfo| (info.alias, info.generation, info.previous);
                    list.into_iter().map(durable).collect()
                };
                let resident = before.iter().any(|info| info.alias == alias && info.resident);
                if resident && random.random_bool(0.5) {
                    store.rollback(alias, None).unwrap();
                    assert_eq!(kept(store.list()), kept(before), "twice is where it was");
                }
            }
        }
        _ => {
            let _refused = store.unload(alias, &Expected::Anything);
        }
    }
}

#[test]
fn whatever_is_done_bytes_stay_within_and_only_leases_keep_content() {
    for seed in 0..200 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let store = store_over(&all_numbers(), BYTES, RESIDENT);
        let (mut leases, mut published) = (Vec::new(), BTreeSet::new());
        for _ in 0..120 {
            disturb(&store, &mut random, &mut published);
            let alias = ALIASES[random.random_range(0..ALIASES.len())];
            if let Ok(lease) = store.resolve(alias) {
                let (digest, content) = (lease.digest.clone(), lease.content);
                assert!(published.contains(&format!("{alias} {digest}")), "{alias} {digest}");
                assert_eq!(digest, format!("g{content}"));
                if random.random_bool(0.4) {
                    leases.push(lease);
                }
            }
            if leases.len() > 3 {
                leases.swap_remove(random.random_range(0..leases.len()));
            }
            let tally = store.tally();
            assert!(tally.bytes <= BYTES && tally.resident <= RESIDENT, "seed {seed}: {tally:?}");
        }
        let content: Vec<_> = (0..DIGESTS)
            .filter_map(|n| Some(Arc::downgrade(&store.resident(&format!("g{n}"))?)))
            .chain(leases.iter().map(Arc::downgrade))
            .collect();
        for alias in ALIASES {
            let _unknown = store.unload(alias, &Expected::Anything);
        }
        let held: BTreeSet<&str> = leases.iter().map(|lease| lease.digest.as_str()).collect();
        let alive = content.iter().filter_map(std::sync::Weak::upgrade);
        assert!(alive.clone().all(|one| held.contains(one.digest.as_str())), "seed {seed}");
        drop(alive);
        assert_eq!(store.tally().resident, held.len(), "seed {seed}");
        leases.clear();
        assert_eq!(store.tally().bytes, 0, "seed {seed}");
    }
}

/// Resolves aliases until told to stop; what a request leased stays the same however often it looks.
fn read_again_and_again(store: &Store, seed: u64, done: &AtomicBool) -> BTreeSet<String> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut seen = BTreeSet::new();
    while !done.load(SeqCst) {
        let alias = ALIASES[random.random_range(0..ALIASES.len())];
        let Ok(lease) = store.resolve(alias) else { continue };
        for _ in 0..random.random_range(0..50) {
            assert_eq!(lease.digest, format!("g{}", lease.content));
            thread::yield_now();
        }
        seen.insert(format!("{alias} {}", lease.digest));
    }
    seen
}

#[test]
fn at_once_nobody_sees_unpublished_content_or_more_bytes_than_may_be() {
    let store = store_over(&all_numbers(), BYTES, RESIDENT);
    let done = AtomicBool::new(false);
    let seen = thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|seed| {
                let (store, done) = (&store, &done);
                scope.spawn(move || read_again_and_again(store, 100 + seed, done))
            })
            .collect();
        let watcher = scope.spawn(|| {
            let mut most = 0;
            while !done.load(SeqCst) {
                let tally = store.tally();
                assert!(tally.bytes <= BYTES && tally.resident <= RESIDENT, "{tally:?}");
                most = most.max(tally.bytes);
            }
            most
        });
        let mut published = BTreeSet::new();
        let mut random = ChaCha8Rng::seed_from_u64(3);
        for round in 0..4_000 {
            let alias = ALIASES[random.random_range(0..ALIASES.len())];
            let n = random.random_range(0..DIGESTS);
            if random.random_bool(0.1) {
                let _refused = store.unload(alias, &Expected::Anything);
            } else {
                published.insert(format!("{alias} g{n}"));
                let _refused = store.publish(&change(alias), Arc::new(numbered(n)));
            }
            if round % 16 == 0 {
                thread::yield_now();
            }
        }
        done.store(true, SeqCst);
        assert!(watcher.join().unwrap() > BYTES / 2, "the limit was in play");
        let seen: BTreeSet<String> =
            readers.into_iter().flat_map(|reader| reader.join().unwrap()).collect();
        assert!(seen.is_subset(&published));
        seen
    });
    assert!(seen.len() > DIGESTS, "only {} of them were seen", seen.len());
    for alias in ALIASES {
        let _unknown = store.unload(alias, &Expected::Anything);
    }
    assert_eq!(store.tally().bytes, 0, "no lease was lost");
}
