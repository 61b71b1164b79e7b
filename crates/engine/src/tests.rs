use std::{
    ops::ControlFlow,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use understudy_inference::{
    Backend, Completion, Event, FinishReason, GenerateRequest, InferenceError, Prompt, Sampling,
    complete,
};
use understudy_model::{
    BaseModel, Device, Family, Lora, LoraSpec, ModelConfig, Targets, write_peft,
};

use crate::{Config, Engine};

fn engine(config: Config) -> Engine {
    let base = BaseModel::random(ModelConfig::tiny(Family::Llama), 7, &Device::Cpu).unwrap();
    Engine::start(base, "tiny".to_owned(), config).unwrap()
}

/// Adapters that change what the tiny model says, written as PEFT directories.
fn adapters(count: u64) -> (tempfile::TempDir, Vec<PathBuf>) {
    let directory = tempfile::tempdir().unwrap();
    let config = ModelConfig::tiny(Family::Llama);
    let spec =
        LoraSpec { rank: 4, alpha: 8.0, rank_stabilised: false, targets: Targets::AllLinear };
    let write = |seed: u64| {
        let mut lora = Lora::init(&config, &spec, seed).unwrap();
        for (n, value) in lora.values_mut().iter_mut().enumerate() {
            *value += ((n as f32 + 1.0) * (seed as f32 + 2.0)).sin() * 0.2;
        }
        let path = directory.path().join(format!("adapter-{seed}"));
        write_peft(&lora, &path, "tiny", &[]).unwrap();
        path
    };
    let paths = (0..count).map(write).collect();
    (directory, paths)
}

fn request(prompt: &[u32], adapter: Option<&str>, max_tokens: u32) -> GenerateRequest {
    GenerateRequest {
        prompt: Prompt::Tokens(prompt.to_vec()),
        adapter: adapter.map(str::to_owned),
        sampling: Sampling::greedy(max_tokens),
    }
}

fn ids(completion: &Completion) -> Vec<u32> {
    completion.tokens.as_ref().unwrap().completion_ids.clone()
}

/// Submits everything at once and waits for all answers, in the order of the requests.
fn together(
    engine: &Engine,
    requests: Vec<GenerateRequest>,
) -> Vec<Result<Completion, InferenceError>> {
    let waits: Vec<_> = requests
        .into_iter()
        .map(|request| {
            let (sender, receiver) = mpsc::channel();
            let sink = Box::new(move |event| {
                match event {
                    Event::Finished(completion) => sender.send(Ok(*completion)).unwrap(),
                    Event::Failed(error) => sender.send(Err(error)).unwrap(),
                    Event::Started(_) | Event::Delta(_) => {}
                }
                ControlFlow::Continue(())
            });
            engine.submit(request, sink).map(|()| receiver)
        })
        .collect();
    waits.into_iter().map(|wait| wait?.recv().unwrap()).collect()
}

fn prompts() -> Vec<Vec<u32>> {
    let shared: Vec<u32> = (40..60).collect();
    let mut prompts = vec![vec![1, 5, 9, 200, 31], vec![300], shared.clone()];
    prompts.extend((0..5).map(|n| {
        let own = [100 + n, 7, 90 + n];
        shared.iter().copied().chain(own).collect()
    }));
    prompts
}

#[test]
fn every_request_gets_in_company_what_it_gets_alone() {
    let (_keep, paths) = adapters(2);
    let load = |engine: &Engine| {
        for (n, path) in paths.iter().enumerate() {
            engine.load_adapter(&format!("a@{n}"), path).unwrap();
        }
    };
    let requests = || -> Vec<GenerateRequest> {
        let names = [None, Some("a@0"), Some("a@1")];
        let prompts = prompts().into_iter().enumerate();
        prompts.map(|(n, p)| request(&p, names[n % 3], 6 + n as u32)).collect()
    };
    let alone: Vec<Vec<u32>> = requests()
        .into_iter()
        .map(|request| {
            let engine = engine(Config::default());
            load(&engine);
            ids(&complete(&engine, request).unwrap())
        })
        .collect();
    // Chunked prompts, a small batch, and a second round that meets warm prefixes.
    for config in [
        Config::default(),
        Config { max_running: 3, prefill_tokens: 4, ..Config::default() },
        Config { cache_tokens: 64, ..Config::default() },
    ] {
        let engine = engine(config);
        load(&engine);
        for round in 0..2 {
            let answers = together(&engine, requests());
            for (n, (answer, alone)) in answers.iter().zip(&alone).enumerate() {
                let answer = answer.as_ref().unwrap();
                assert_eq!(&ids(answer), alone, "request {n}, round {round}, {config:?}");
            }
        }
    }
}

#[test]
fn recorded_log_probabilities_are_those_of_a_full_forward() {
    let engine = engine(Config { prefill_tokens: 3, ..Config::default() });
    let sampling = Sampling { temperature: 0.7, seed: Some(3), ..Sampling::greedy(12) };
    let request = GenerateRequest { sampling, ..request(&[1, 5, 9, 200, 31], None, 12) };
    let record = complete(&engine, request).unwrap().tokens.unwrap();
    assert!(record.logprobs_exact);
    let mut all = record.prompt_ids.clone();
    all.extend(&record.completion_ids);
    let model = BaseModel::random(ModelConfig::tiny(Family::Llama), 7, &Device::Cpu).unwrap();
    let batch = understudy_model::Batch::of(&[all.clone()]);
    let hidden = model.decoder.hidden(&batch, None).unwrap();
    let first = record.prompt_ids.len();
    let terms: Vec<understudy_model::Term> = (first..all.len())
        .map(|at| understudy_model::Term { row: at - 1, target: all[at] })
        .collect();
    let full = model.decoder.log_probs(&hidden, &terms, 0.7).unwrap();
    for (ours, full) in record.sampling_logprobs.iter().zip(&full.log_probs) {
        assert!((ours - full).abs() < 1e-4, "{ours} against {full}");
    }
}

#[test]
fn a_seed_draws_the_same_in_any_company() {
    let engine = engine(Config::default());
    let seeded = |seed| {
        let sampling = Sampling { temperature: 1.0, seed: Some(seed), ..Sampling::greedy(10) };
        GenerateRequest { sampling, ..request(&[40, 41, 42], None, 10) }
    };
    let alone = ids(&complete(&engine, seeded(5)).unwrap());
    let crowd = together(&engine, (0..8).map(seeded).collect());
    assert_eq!(ids(crowd[5].as_ref().unwrap()), alone);
    assert_ne!(ids(crowd[4].as_ref().unwrap()), alone);
}

#[test]
fn swapping_and_unloading_under_load_never_mixes_generations() {
    let (_keep, paths) = adapters(2);
    let engine = Arc::new(engine(Config::default()));
    let prompt = [1, 5, 9, 200, 31];
    let reference: Vec<(String, Vec<u32>)> = paths
        .iter()
        .map(|path| {
            let generation = engine.load_adapter("ref", path).unwrap().generation;
            (generation, ids(&complete(&*engine, request(&prompt, Some("ref"), 20)).unwrap()))
        })
        .collect();
    assert_ne!(reference[0].1, reference[1].1, "the two adapters must be told apart");
    engine.load_adapter("live", &paths[0]).unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let swapper = {
        let (engine, done, paths) = (Arc::clone(&engine), Arc::clone(&done), paths.clone());
        thread::spawn(move || {
            let mut swaps = 0;
            while !done.load(Ordering::Relaxed) {
                engine.load_adapter("live", &paths[swaps % 2]).unwrap();
                engine.load_adapter("spare", &paths[0]).unwrap();
                engine.unload_adapter("spare").unwrap();
                if swaps % 3 == 2 {
                    engine.rollback("live").unwrap();
                }
                swaps += 1;
                thread::sleep(Duration::from_millis(2));
            }
            swaps
        })
    };
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..12 {
        let requests = (0..8).map(|_| request(&prompt, Some("live"), 20)).collect();
        for answer in together(&engine, requests) {
            let answer = answer.unwrap();
            let generation = &answer.served.adapter.as_ref().unwrap().generation;
            let expected = reference.iter().find(|(known, _)| known == generation).unwrap();
            assert_eq!(ids(&answer), expected.1, "tokens of exactly the generation it names");
            seen.insert(generation.clone());
        }
    }
    done.store(true, Ordering::Relaxed);
    assert!(swapper.join().unwrap() > 5);
    assert_eq!(seen.len(), 2, "both generations answered");
}

#[test]
fn an_unknown_adapter_is_an_error_and_never_the_base() {
    let engine = engine(Config::default());
    let refused = complete(&engine, request(&[1], Some("nobody@1"), 4)).unwrap_err();
    assert!(matches!(refused, InferenceError::UnknownAdapter { .. }), "{refused}");
    assert!(engine.unload_adapter("nobody@1").is_err());
    let missing = engine.load_adapter("x@1", std::path::Path::new("/nowhere")).unwrap_err();
    assert!(matches!(missing, InferenceError::BadAdapter { .. }), "{missing}");
}

#[test]
fn an_adapter_of_another_base_is_refused() {
    let (_keep, paths) = adapters(1);
    let mut manifest = serde_json::json!({
        "schema": 1, "task": "t", "base": "b", "base_digest": "other",
        "tokenizer_digest": "", "template_digest": "", "recipe_digest": "0".repeat(64),
        "dataset": {"version": format!("t@{}", "0".repeat(64)), "sft_rows": 0, "pair_rows": 0},
        "parent": null, "stages": [], "code_version": "0", "device": "cpu", "threads": 1,
        "run": null,
    });
    let engine = engine(Config::default());
    let path = paths[0].join("manifest.json");
    std::fs::write(&path, manifest.to_string()).unwrap();
    let refused = engine.load_adapter("t@1", &paths[0]).unwrap_err();
    assert!(refused.to_string().contains("another base model"), "{refused}");
    manifest["base_digest"] = engine.digests().base.clone().into();
    manifest["tokenizer_digest"] = engine.digests().tokenizer.clone().into();
    manifest["template_digest"] = engine.digests().template.clone().into();
    std::fs::write(&path, manifest.to_string()).unwrap();
    engine.load_adapter("t@1", &paths[0]).unwrap();
}

#[test]
fn limits_are_errors_with_numbers() {
    let engine = engine(Config { max_waiting: 1, max_running: 1, ..Config::default() });
    let long = vec![5; 2000];
    let refused = complete(&engine, request(&long, None, 4)).unwrap_err();
    assert!(matches!(refused, InferenceError::ContextOverflow { prompt_tokens: 2000, .. }));
    assert!(complete(&engine, request(&[], None, 4)).is_err());
    assert!(complete(&engine, request(&[9999], None, 4)).is_err());
    let answers = together(&engine, (0..20).map(|_| request(&[1, 2], None, 50)).collect());
    let busy = answers.iter().filter(|a| matches!(a, Err(InferenceError::Busy(_)))).count();
    assert!((1..20).contains(&busy), "{busy} of 20 were refused");
}

#[test]
fn a_client_that_goes_away_or_panics_harms_nobody() {
    let engine = engine(Config::default());
    let (sender, receiver) = mpsc::channel();
    let going = sender.clone();
    let leave = Box::new(move |event: Event| match event {
        Event::Started(_) => ControlFlow::Continue(()),
        _ => {
            going.send(()).unwrap();
            ControlFlow::Break(())
        }
    });
    engine.submit(request(&[1, 2, 3], None, 500), leave).unwrap();
    engine.submit(request(&[4, 5], None, 500), Box::new(|_| panic!("a client's bug"))).unwrap();
    let answer = complete(&engine, request(&[1, 5, 9, 200, 31], None, 5)).unwrap();
    assert_eq!(ids(&answer).len(), answer.usage.completion_tokens as usize);
    receiver.recv().unwrap();
    drop(sender);
    assert!(receiver.recv().is_err(), "nothing is sent to a client that left");
}

#[test]
fn dropping_the_engine_fails_what_is_left() {
    let engine = engine(Config::default());
    let (sender, receiver) = mpsc::channel();
    let sink = Box::new(move |event| {
        if let Event::Failed(error) = event {
            sender.send(error).unwrap();
        }
        ControlFlow::Continue(())
    });
    engine.submit(request(&[7, 8, 9], None, 900), sink).unwrap();
    drop(engine);
    // It may have finished first; if it did not, it was told why.
    if let Ok(error) = receiver.recv() {
        assert_eq!(error, InferenceError::ShuttingDown);
    }
}

#[test]
fn the_text_is_the_deltas_and_stops_before_a_stop_string() {
    let engine = engine(Config::default());
    let whole = complete(&engine, request(&[1, 5, 9, 200, 31], None, 30)).unwrap();
    assert!(matches!(whole.finish_reason, FinishReason::Stop | FinishReason::Length));
    let stop: String = whole.text.chars().skip(5).take(2).collect();
    if stop.is_empty() {
        return;
    }
    let sampling = Sampling { stop: vec![stop.clone()], ..Sampling::greedy(30) };
    let (sender, receiver) = mpsc::channel();
    let sink = Box::new(move |event| {
        sender.send(event).unwrap();
        ControlFlow::Continue(())
    });
    let stopped = GenerateRequest { sampling, ..request(&[1, 5, 9, 200, 31], None, 30) };
    engine.submit(stopped, sink).unwrap();
    let mut said = String::new();
    for event in receiver {
        match event {
            Event::Delta(text) => said.push_str(&text),
            Event::Finished(completion) => {
                assert_eq!(completion.text, said);
                assert_eq!(said, whole.text.split(&stop).next().unwrap());
                assert_eq!(completion.finish_reason, FinishReason::Stop);
            }
            Event::Started(_) => {}
            Event::Failed(error) => panic!("{error}"),
        }
    }
}
