//! Everything at once for a while, and afterwards nothing is left.

use std::{thread, time::Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use understudy_inference::{AdapterInfo, LoadAdapter};

use super::*;

const ALIASES: [&str; 3] = ["one", "two", "three"];

/// One client of a mixed kind: short and long, with adapters and without, and now and then gone
/// before the end. Returns how many it finished.
fn client(engine: &Engine, seed: u64, until: Instant) -> usize {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut finished = 0;
    while Instant::now() < until {
        let prompt: Vec<u32> =
            (0..random.random_range(1..60)).map(|_| random.random_range(3..250)).collect();
        let alias = random.random_bool(0.8).then(|| ALIASES[random.random_range(0..3)]);
        let most = if random.random_bool(0.2) { 60 } else { random.random_range(1..10) };
        let Ok(reply) = submit(engine, request(&prompt, alias, most)) else { continue };
        if random.random_bool(0.25) {
            drop(reply);
            continue;
        }
        reply.end().unwrap();
        finished += 1;
    }
    finished
}

#[test]
fn a_mixed_load_leaves_no_lease_no_sequence_and_no_adapter_behind() {
    let root = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = (0..6).map(|seed| write_adapter(&root, seed)).collect();
    let config = Config { adapters_resident: 8, kv_tokens: 250, ..Config::default() };
    let engine = engine(config);
    for (alias, path) in ALIASES.iter().zip(&paths) {
        engine.load_adapter(alias, path).unwrap();
    }
    let until = Instant::now() + Duration::from_secs(3);
    let finished: usize = thread::scope(|scope| {
        let engine = &engine;
        let clients: Vec<_> =
            (0..8).map(|seed| scope.spawn(move || client(engine, seed, until))).collect();
        let mut random = ChaCha8Rng::seed_from_u64(99);
        let mut swaps = 0;
        // On a busy machine three seconds may pass without enough of them.
        while Instant::now() < until || swaps <= 10 {
            let alias = ALIASES[random.random_range(0..3)];
            if random.random_range(0..4) == 0 {
                drop(engine.rollback_adapter(alias, None));
                continue;
            }
            let path = &paths[random.random_range(0..paths.len())];
            match engine.publish_adapter(LoadAdapter::new(alias, path)) {
                Ok(_) | Err(InferenceError::AdaptersFull { .. }) => swaps += 1,
                Err(error) => panic!("{error}"),
            }
        }
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    settle(&engine);
    let stats = engine.stats();
    assert!(finished > 20 && stats.cancelled > 0 && stats.evicted > 0, "{finished}, {stats:?}");
    assert_eq!((stats.failed, stats.kv_tokens), (0, 0), "{stats:?}");
    let leaked: Vec<AdapterInfo> =
        engine.adapters().into_iter().filter(|info| info.leases > 0).collect();
    assert!(leaked.is_empty(), "{leaked:?}");
    for alias in ALIASES {
        engine.unload_adapter(alias).unwrap();
    }
    let stats = engine.stats();
    assert_eq!((stats.resident_adapters, stats.resident_bytes), (0, 0));
}
