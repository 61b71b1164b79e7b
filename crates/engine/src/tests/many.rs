//! A thousand adapters, sixty-four places.

use std::collections::BTreeMap;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use understudy_inference::{AdapterChoice, LoadAdapter};

use super::*;

const REGISTERED: usize = 1_000;
const RESIDENT: usize = 64;

/// A small adapter of its own for every number.
fn write_small(root: &tempfile::TempDir, number: usize) -> PathBuf {
    let spec = LoraSpec::new(1, 2.0, Targets::AllLinear);
    let mut lora = Lora::init(&ModelConfig::tiny(Family::Llama), &spec, number as u64).unwrap();
    lora.values_mut().iter_mut().for_each(|value| *value += 0.01);
    let path = root.path().join(format!("small-{number}"));
    write_peft(&lora, &path, "tiny", &[]).unwrap();
    path
}

/// Number n is asked for in proportion to 1/(n + 1).
fn skewed(random: &mut ChaCha8Rng) -> usize {
    let uniform: f64 = random.random_range(0.0..1.0);
    ((REGISTERED as f64 + 1.0).powf(uniform) - 1.0) as usize % REGISTERED
}

#[test]
fn skewed_traffic_over_many_mostly_hits_and_memory_stays_bounded() {
    let root = tempfile::tempdir().unwrap();
    let engine = engine(Config { adapters_resident: RESIDENT, ..Config::default() });
    for number in 0..REGISTERED {
        let load = LoadAdapter::new(format!("a{number}"), write_small(&root, number));
        engine.publish_adapter(LoadAdapter { on_demand: true, ..load }).unwrap();
    }
    let adapters = engine.adapters();
    assert_eq!((adapters.len(), engine.stats().resident_adapters), (REGISTERED, 0));

    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut most = 0;
    let mut asked = BTreeMap::<usize, usize>::new();
    for _ in 0..1_500 {
        let number = skewed(&mut random);
        *asked.entry(number).or_default() += 1;
        let completion =
            complete(&engine, request(&[1, 2, 3], Some(&format!("a{number}")), 1)).unwrap();
        let served = completion.served.adapter.unwrap();
        assert_eq!(served.generation, adapters_of(&adapters, number), "the one asked for");
        let stats = engine.stats();
        assert!(stats.resident_adapters <= RESIDENT, "{stats:?}");
        most = most.max(stats.resident_bytes);
    }
    let stats = engine.stats();
    let (hits, misses) = (stats.adapter_hits as f64, stats.adapter_misses as f64);
    let rate = hits / (hits + misses);
    // log 65 / log 1001 = 0.60 of this traffic goes to the 64 most wanted; who keeps the most
    // recent instead of those, and starts with nothing, comes to three quarters of that.
    assert!(asked.len() > 4 * RESIDENT, "only {} were asked for", asked.len());
    assert!((0.4..0.6).contains(&rate), "{rate}");
    let one = most / RESIDENT as u64;
    assert_eq!(stats.resident_bytes, one * stats.resident_adapters as u64, "all of one size");
    assert_eq!(stats.failed, 0);
}

fn adapters_of(adapters: &[understudy_inference::AdapterInfo], number: usize) -> String {
    let alias = format!("a{number}");
    adapters.iter().find(|info| info.alias == alias).unwrap().generation.clone()
}

#[test]
fn exact_content_can_be_asked_for_while_it_is_in_memory() {
    let root = tempfile::tempdir().unwrap();
    let engine = engine(Config::default());
    let (old, new) = (write_adapter(&root, 0), write_adapter(&root, 1));
    let first = engine.load_adapter("task", &old).unwrap().generation;
    engine.load_adapter("task", &new).unwrap();
    let ask = |digest: &str| {
        let adapter = Some(AdapterChoice::Generation(digest.to_owned()));
        complete(&engine, GenerateRequest { adapter, ..request(&[1, 2, 3], None, 8) })
    };
    let completion = ask(&first).unwrap();
    assert_eq!(ids(&completion), greedy(&[1, 2, 3], Some(&old), 8));
    let served = completion.served.adapter.unwrap();
    assert_eq!((served.alias.as_str(), served.generation), ("task", first));
    assert!(matches!(ask(&"0".repeat(64)), Err(InferenceError::UnknownAdapter { .. })));
}

#[test]
fn a_load_says_which_content_it_must_be_and_what_it_replaces() {
    let root = tempfile::tempdir().unwrap();
    let engine = engine(Config::default());
    let (old, new) = (write_adapter(&root, 0), write_adapter(&root, 1));
    let first = engine.load_adapter("task", &old).unwrap().generation;
    let load = LoadAdapter { generation: Some(first.clone()), ..LoadAdapter::new("task", &new) };
    let error = engine.publish_adapter(load).unwrap_err().to_string();
    assert!(error.contains(&format!("not {first} as was asked for")), "{error}");
    let load = LoadAdapter { keep_previous: Some(0), ..LoadAdapter::new("task", &new) };
    let loaded = engine.publish_adapter(load).unwrap();
    assert_eq!(loaded.replaced, Some(first));
    assert!(loaded.adapter.previous.is_empty());
    assert!(engine.rollback_adapter("task", None).is_err());
}

#[test]
fn an_engine_that_starts_again_serves_the_same_and_reports_what_it_cannot() {
    let root = tempfile::tempdir().unwrap();
    let state = root.path().join("adapters.json");
    let (one, two) = (write_adapter(&root, 0), write_adapter(&root, 1));
    let start = || Engine::restore(model(), "tiny", Config::default(), &state).unwrap();
    let (engine, missing) = start();
    assert!(missing.is_empty());
    engine.load_adapter("task", &one).unwrap();
    engine.load_adapter("task", &two).unwrap();
    engine.load_adapter("other", &two).unwrap();
    let before = engine.adapters();
    drop(engine);
    let (engine, missing) = start();
    assert!(missing.is_empty(), "{missing:?}");
    assert_eq!(engine.adapters(), before);
    engine.rollback_adapter("task", None).unwrap();
    let answer = complete(&engine, request(&[1, 2, 3], Some("task"), 8)).unwrap();
    assert_eq!(ids(&answer), greedy(&[1, 2, 3], Some(&one), 8));
    drop(engine);
    std::fs::remove_dir_all(&two).unwrap();
    let (engine, missing) = start();
    assert!(missing.iter().any(|(alias, _)| alias == "other"), "{missing:?}");
    let refused = complete(&engine, request(&[1, 2, 3], Some("other"), 8));
    assert!(matches!(refused, Err(InferenceError::BadAdapter { .. })), "{refused:?}");
    assert!(complete(&engine, request(&[1, 2, 3], Some("task"), 8)).is_ok());
}
