use std::{
    collections::BTreeSet,
    fs,
    ops::ControlFlow,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use understudy_inference::{AdapterChoice, AdapterInfo, InLine};

use super::*;

const PROMPT: [u32; 24] =
    [1, 5, 9, 200, 31, 7, 7, 8, 3, 100, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28];

fn served(completion: &Completion) -> String {
    completion.served.adapter.as_ref().unwrap().generation.clone()
}

#[test]
fn streams_finish_on_their_generation_through_swaps_rollbacks_and_unloads() {
    let root = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = (0..3).map(|seed| write_adapter(&root, seed)).collect();
    let engine = engine(Config::default());
    let reference: Vec<(String, Vec<u32>)> = paths
        .iter()
        .map(|path| {
            let AdapterInfo { generation, .. } = engine.load_adapter("live", path).unwrap();
            (generation, greedy(&PROMPT, Some(path), 24))
        })
        .collect();
    let expected = |generation: &str| {
        &reference.iter().find(|(known, _)| known == generation).expect("a known generation").1
    };
    assert_eq!(reference.iter().map(|one| &one.1).collect::<BTreeSet<_>>().len(), 3);

    let (done, swapped) = (AtomicBool::new(false), AtomicUsize::new(0));
    let seen = thread::scope(|scope| {
        let swapper = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let swaps = swapped.load(Ordering::Relaxed);
                engine.load_adapter("live", &paths[swaps % 3]).unwrap();
                if swaps % 4 == 3 {
                    engine.rollback_adapter("live", None).unwrap();
                }
                // A request whose adapter is gone before it has its first token.
                engine.load_adapter("brief", &paths[swaps % 2]).unwrap();
                let reply = submit(&engine, request(&PROMPT, Some("brief"), 24)).unwrap();
                engine.unload_adapter("brief").unwrap();
                let completion = reply.end().unwrap();
                assert_eq!(served(&completion), reference[swaps % 2].0);
                assert_eq!(ids(&completion), reference[swaps % 2].1);
                swapped.store(swaps + 1, Ordering::Relaxed);
            }
        });
        let streams: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut seen = BTreeSet::new();
                    let mut replies = 0;
                    while replies < 25 || swapped.load(Ordering::Relaxed) < 6 {
                        replies += 1;
                        let completion =
                            complete(&engine, request(&PROMPT, Some("live"), 24)).unwrap();
                        let generation = served(&completion);
                        assert_eq!(ids(&completion), expected(&generation));
                        seen.insert(generation);
                    }
                    seen
                })
            })
            .collect();
        let seen: BTreeSet<String> =
            streams.into_iter().flat_map(|stream| stream.join().unwrap()).collect();
        done.store(true, Ordering::Relaxed);
        swapper.join().unwrap();
        seen
    });
    assert!(seen.len() > 1, "several generations answered");
    assert_eq!(engine.stats().failed, 0);
    assert_eq!(engine.stats().reused_tokens > 0, shares_blocks(), "prefixes were in play");
}

#[test]
fn rollback_goes_to_the_generation_before_without_reading_a_file() {
    let root = tempfile::tempdir().unwrap();
    let (old, new) = (write_adapter(&root, 0), write_adapter(&root, 1));
    let engine = engine(Config::default());
    let first = engine.load_adapter("task", &old).unwrap();
    assert_eq!((first.rank, engine.adapters().len()), (4, 1));
    assert!(engine.rollback_adapter("task", None).is_err());
    engine.load_adapter("task", &new).unwrap();
    let expected = greedy(&PROMPT, Some(&old), 10);
    fs::remove_dir_all(&old).unwrap();
    assert_eq!(engine.rollback_adapter("task", None).unwrap().generation, first.generation);
    assert_eq!(ids(&complete(&engine, request(&PROMPT, Some("task"), 10)).unwrap()), expected);
}

#[test]
fn an_unknown_adapter_is_an_error_and_never_the_base() {
    let engine = engine(Config::default());
    let error = complete(&engine, request(&PROMPT, Some("nobody"), 4)).unwrap_err();
    assert!(matches!(error, InferenceError::UnknownAdapter { .. }), "{error}");
    assert!(matches!(engine.unload_adapter("nobody"), Err(InferenceError::UnknownAdapter { .. })));
}

fn refusal(engine: &Engine, alias: &str, path: &Path) -> String {
    match engine.load_adapter(alias, path) {
        Err(InferenceError::BadAdapter { why, .. }) => why,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[test]
fn what_would_not_act_is_refused_and_the_alias_stays_as_it_was() {
    let root = tempfile::tempdir().unwrap();
    let engine = engine(Config::default());
    let good = engine.load_adapter("task", &write_adapter(&root, 0)).unwrap();

    assert!(refusal(&engine, "task", Path::new("/nowhere")).contains("/nowhere"));
    let config = ModelConfig::tiny(Family::Llama);
    let untrained = Lora::init(&config, &LoraSpec::standard(), 1).unwrap();
    let path = root.path().join("untrained");
    write_peft(&untrained, &path, "tiny", &[]).unwrap();
    assert!(refusal(&engine, "task", &path).contains("changes nothing"));

    let mut diverged = Lora::init(&config, &LoraSpec::standard(), 1).unwrap();
    diverged.values_mut().fill(1e30);
    let path = root.path().join("diverged");
    write_peft(&diverged, &path, "tiny", &[]).unwrap();
    assert!(refusal(&engine, "task", &path).contains("not finite"));

    let path = write_adapter(&root, 1);
    assert!(refusal(&engine, "tiny", &path).contains("base model's name"));
    assert!(refusal(&engine, "two words", &path).contains("a word"));
    fs::write(path.join("adapter_model.safetensors"), b"cut off").unwrap();
    refusal(&engine, "task", &path);
    assert_eq!(engine.adapters(), [good]);
}

#[test]
fn an_adapter_trained_on_another_base_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let path = write_adapter(&root, 0);
    let engine = engine(Config::default());
    let digests = engine.digests().clone();
    let mut manifest = serde_json::json!({
        "schema": 1, "task": "t", "base": "b", "base_digest": digests.base,
        "tokenizer_digest": digests.tokenizer, "template_digest": digests.template,
        "recipe_digest": "0".repeat(64),
        "dataset": {"version": format!("t@{}", "0".repeat(64)), "sft_rows": 0, "pair_rows": 0},
        "parent": null, "stages": [], "code_version": "0", "device": "cpu", "threads": 1,
        "run": null,
    });
    let file = path.join("manifest.json");
    fs::write(&file, manifest.to_string()).unwrap();
    engine.load_adapter("t", &path).unwrap();
    for (field, what) in [
        ("base_digest", "base weights"),
        ("tokenizer_digest", "tokenizer"),
        ("template_digest", "chat template"),
    ] {
        let right = manifest[field].take();
        manifest[field] = "f".repeat(64).into();
        fs::write(&file, manifest.to_string()).unwrap();
        let why = refusal(&engine, "t", &path);
        assert!(why.contains(&format!("other {what}")), "{why}");
        manifest[field] = right;
    }
    fs::write(&file, "{}").unwrap();
    assert!(refusal(&engine, "t", &path).contains("not an adapter manifest"));
}

#[test]
fn an_adapter_in_memory_answers_like_the_same_one_on_disk() {
    let root = tempfile::tempdir().unwrap();
    let path = write_adapter(&root, 1);
    let mut lora = read_peft(&path, model().decoder.config()).unwrap().lora;
    let engine = engine(Config::default());
    let first = engine.load_lora("policy", &lora).unwrap().generation;
    assert_eq!(engine.load_lora("policy", &lora).unwrap().generation, first, "equal values");
    let answer = |engine: &Engine| {
        ids(&complete(engine, request(&PROMPT, Some("policy"), 24)).unwrap()).to_vec()
    };
    assert_eq!(answer(&engine), greedy(&PROMPT, Some(&path), 24));
    lora.values_mut().iter_mut().for_each(|value| *value = -*value * 1.5);
    let second = engine.load_lora("policy", &lora).unwrap().generation;
    assert_ne!(first, second);
    assert_ne!(answer(&engine), greedy(&PROMPT, Some(&path), 24), "nothing cached is reused");
}

#[test]
fn a_fresh_adapter_in_memory_is_the_base_and_a_broken_one_is_refused() {
    let engine = engine(Config::default());
    let spec = LoraSpec::standard();
    let mut lora = Lora::init(&ModelConfig::tiny(Family::Llama), &spec, 1).unwrap();
    engine.load_lora("policy", &lora).unwrap();
    let fresh = complete(&engine, request(&PROMPT, Some("policy"), 16)).unwrap();
    assert_eq!(ids(&fresh), greedy(&PROMPT, None, 16));
    lora.values_mut()[3] = f32::NAN;
    let error = engine.load_lora("policy", &lora).unwrap_err().to_string();
    assert!(error.contains("not finite"), "{error}");
    let other = ModelConfig { layers: 3, ..ModelConfig::tiny(Family::Llama) };
    let foreign = Lora::init(&other, &spec, 1).unwrap();
    let error = engine.load_lora("policy", &foreign).unwrap_err().to_string();
    assert!(error.contains("another shape"), "{error}");
    assert!(engine.load_lora("tiny", &foreign).is_err());
}

#[test]
fn who_runs_and_who_waits_is_counted_by_adapter_and_so_are_loads() {
    let root = tempfile::tempdir().unwrap();
    let engine = engine(Config { max_running: 1, ..Config::default() });
    engine.load_adapter("a", &write_adapter(&root, 1)).unwrap();
    engine.load_adapter("b", &write_adapter(&root, 2)).unwrap();
    engine.load_adapter("b", &root.path().join("nothing")).unwrap_err();
    // It goes on until it has been looked at.
    let looked = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&looked);
    let sink = move |_| {
        thread::sleep(Duration::from_millis(1));
        if until.load(Ordering::Relaxed) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let mut endless = request(&[1, 5, 9], Some("a"), 900);
    endless.sampling.ignore_eos = true;
    engine.submit(endless, Box::new(sink)).unwrap();
    let second = submit(&engine, request(&[4, 5], Some("b"), 3)).unwrap();
    let line = |alias: &str, waiting, running| InLine { alias: alias.to_owned(), waiting, running };
    let expected = Some(vec![line("a", 0, 1), line("b", 1, 0)]);
    let begun = Instant::now();
    while engine.in_line() != expected {
        assert!(begun.elapsed() < PATIENCE, "{:?}", engine.in_line());
        thread::yield_now();
    }
    looked.store(true, Ordering::Relaxed);
    second.end().unwrap();
    settle(&engine);
    assert_eq!(engine.in_line(), Some(Vec::new()));
    let loads = engine.loads();
    assert_eq!((loads.added, loads.replaced, loads.refused), (2, 0, 1));
    assert_eq!(loads.verify.counts.iter().sum::<u64>(), 2);
    let bytes = engine.gauges();
    let of = |what: &str| bytes.iter().find(|gauge| gauge.labels[0].1 == what).unwrap().value;
    assert!(of("capacity") > 0.0 && of("running") == 0.0);
}

#[test]
fn an_adapter_of_too_high_a_rank_is_not_served() {
    let root = tempfile::tempdir().unwrap();
    let path = write_adapter(&root, 1);
    let narrow = engine(Config { max_lora_rank: 3, ..Config::default() });
    let error = narrow.load_adapter("a", &path).unwrap_err();
    assert_eq!(error, InferenceError::RankTooHigh { alias: "a".to_owned(), rank: 4, most: 3 });
    assert!(narrow.adapters().is_empty());
    // A pattern may ask for more than the rank of the others.
    let config = path.join("adapter_config.json");
    let text = fs::read_to_string(&config).unwrap();
    let wide = engine(Config { max_lora_rank: 4, ..Config::default() });
    wide.load_adapter("a", &path).unwrap();
    let patterned = text.replace("\"rank_pattern\": {}", "\"rank_pattern\": {\"q_proj\": 600}");
    assert_ne!(text, patterned);
    fs::write(&config, patterned).unwrap();
    let error = wide.load_adapter("a", &path).unwrap_err();
    assert!(matches!(error, InferenceError::RankTooHigh { rank: 600, .. }), "{error}");
}

#[test]
fn requests_of_an_alias_are_in_flight_until_their_last_token_whatever_becomes_of_it() {
    let root = tempfile::tempdir().unwrap();
    let (engine, path) = (engine(Config::default()), write_adapter(&root, 1));
    let generation = engine.load_adapter("a", &path).unwrap().generation;
    let exactly = GenerateRequest {
        adapter: Some(AdapterChoice::Generation(generation)),
        ..request(&PROMPT, None, 4)
    };
    let (told, events) = mpsc::channel();
    let (go_on, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    // The engine goes no further than the first event until it is let.
    let sink = move |event| {
        if matches!(event, Event::Started(_)) {
            held.lock().unwrap().recv().unwrap();
        }
        told.send(event).unwrap();
        ControlFlow::Continue(())
    };
    engine.submit(request(&PROMPT, Some("a"), 4), Box::new(sink)).unwrap();
    let other = submit(&engine, exactly).unwrap();
    assert_eq!((engine.in_flight("a"), engine.in_flight("b")), (2, 0));
    engine.unload_adapter("a").unwrap();
    let reloaded = write_adapter(&root, 2);
    engine.load_adapter("a", &reloaded).unwrap();
    engine.unload_adapter("a").unwrap();
    assert_eq!(engine.in_flight("a"), 2, "they hold what it meant");
    go_on.send(()).unwrap();
    let expected = greedy(&PROMPT, Some(&path), 4);
    assert_eq!(ids(&Reply(events).end().unwrap()), expected);
    assert_eq!(ids(&other.end().unwrap()), expected);
    let deadline = Instant::now() + PATIENCE;
    while engine.in_flight("a") > 0 {
        assert!(Instant::now() < deadline, "it is never over");
        thread::sleep(Duration::from_millis(1));
    }
    // One that is refused was never in flight.
    assert!(submit(&engine, request(&PROMPT, Some("a"), 4)).is_err());
    assert_eq!(engine.in_flight("a"), 0);
}
