//! Streams under a rain of new generations, each read from a disk anew.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    thread,
    time::Instant,
};

use understudy_inference::LoadAdapter;

use super::*;

const STREAMS: u32 = 16;
const GENERATIONS: u32 = 4;
const TOKENS: u32 = 20;
/// Fewer swaps than this prove little.
const ENOUGH: usize = 8;

fn prompt(stream: u32) -> Vec<u32> {
    (0..12).map(|n| (stream * 31 + n * 7) % 250).collect()
}

#[test]
fn every_stream_is_the_work_of_exactly_one_generation() {
    let root = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = (0..GENERATIONS).map(|seed| write_adapter(&root, seed)).collect();
    let engine = engine(Config::default());
    let mut expected = BTreeMap::new();
    for path in &paths {
        let generation = engine.load_adapter("live", path).unwrap().generation;
        for stream in 0..STREAMS {
            let tokens = greedy(&prompt(stream), Some(path), TOKENS as usize);
            expected.insert((generation.clone(), stream), tokens);
        }
    }
    let (done, swapped) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (engine, expected, done, swapped) = (&engine, &expected, &done, &swapped);
    thread::scope(|scope| {
        let swapper = scope.spawn(move || {
            let (mut swaps, mut slowest) = (0, 0.0_f64);
            while !done.load(SeqCst) {
                // Nothing is kept, so that every load reads, verifies and publishes.
                let load = LoadAdapter::new("live", &paths[swaps % paths.len()]);
                let load = LoadAdapter { keep_previous: Some(0), ..load };
                slowest = slowest.max(engine.publish_adapter(load).unwrap().timing.publish);
                swaps += 1;
                swapped.store(swaps, SeqCst);
            }
            (swaps, slowest)
        });
        let streams: Vec<_> = (0..STREAMS)
            .map(|stream| {
                scope.spawn(move || {
                    let begun = Instant::now();
                    let mut seen = std::collections::BTreeSet::new();
                    // On a busy machine the loader, which yields to everybody, takes its time.
                    let goes_on = || match begun.elapsed().as_secs() {
                        0..2 => true,
                        2..120 => swapped.load(SeqCst) <= ENOUGH,
                        _ => false,
                    };
                    while goes_on() {
                        let asked = request(&prompt(stream), Some("live"), TOKENS);
                        let completion = complete(engine, asked).unwrap();
                        let generation = completion.served.adapter.clone().unwrap().generation;
                        let key = (generation.clone(), stream);
                        assert_eq!(ids(&completion), expected[&key], "stream {stream}");
                        seen.insert(generation);
                    }
                    seen.len()
                })
            })
            .collect();
        let generations: usize = streams.into_iter().map(|stream| stream.join().unwrap()).sum();
        done.store(true, SeqCst);
        let (swaps, slowest) = swapper.join().unwrap();
        assert!(swaps > ENOUGH, "{swaps} swaps prove little");
        assert!(generations > STREAMS as usize, "streams saw several generations");
        // A second of slack for a machine with better things to do; the benchmark has the figure.
        assert!(slowest < 1_000.0, "publishing took {slowest} ms");
    });
    assert_eq!(engine.stats().failed, 0);
}
