use std::{collections::BTreeMap, thread};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use understudy_inference::Sink;
use understudy_model::Term;

use super::*;

/// Prompts that share a beginning, prompts of one token, and long ones.
fn prompts() -> Vec<Vec<u32>> {
    let shared: Vec<u32> = (40..70).collect();
    let mut prompts = vec![vec![1, 5, 9, 200, 31], vec![250], shared.clone(), (0..90).collect()];
    prompts.extend((0..6).map(|n| {
        let own = [100 + n, 7, 90 + n];
        shared.iter().copied().chain(own).collect()
    }));
    prompts
}

/// A request and the tokens that plain decoding gives it.
type Case = (GenerateRequest, Vec<u32>);

/// Bursts of any of the cases in any order; every answer must be what plain decoding gives.
fn client(engine: &Engine, cases: &[Case], seed: u64) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    for _ in 0..8 {
        let burst: Vec<(Reply, &Vec<u32>)> = (0..random.random_range(1..5))
            .map(|_| &cases[random.random_range(0..cases.len())])
            .map(|(request, expected)| (submit(engine, request.clone()).unwrap(), expected))
            .collect();
        for (reply, expected) in burst {
            assert_eq!(ids(&reply.end().unwrap()), expected);
        }
    }
}

#[test]
fn every_request_gets_in_company_what_it_gets_alone() {
    let root = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = (0..2).map(|seed| write_adapter(&root, seed)).collect();
    let adapters = [(None, None), (Some("a0"), Some(&paths[0])), (Some("a1"), Some(&paths[1]))];
    let case = |(n, prompt): (usize, &Vec<u32>)| {
        let ((alias, path), most) = (adapters[n % 3], 8 + n);
        (request(prompt, alias, most as u32), greedy(prompt, path, most))
    };
    let cases: Vec<Case> = prompts().iter().enumerate().map(case).collect();
    for config in [
        Config::default(),
        // Prompts in chunks of a few tokens, few places.
        Config { max_running: 3, step_tokens: 8, ..Config::default() },
        // So little memory that sequences are put back and read again.
        Config { kv_tokens: 130, step_tokens: 40, prefix_tokens: 0, ..Config::default() },
        Config { prefix_tokens: 0, ..Config::default() },
    ] {
        let engine = engine(config);
        for (n, path) in paths.iter().enumerate() {
            engine.load_adapter(&format!("a{n}"), path).unwrap();
        }
        thread::scope(|scope| {
            for seed in 0..4 {
                let (engine, cases) = (&engine, &cases);
                scope.spawn(move || client(engine, cases, seed));
            }
        });
        let stats = engine.stats();
        let shares = config.prefix_tokens > 0 && shares_blocks();
        assert_eq!(stats.reused_tokens > 0, shares, "{stats:?}");
        assert_eq!(stats.evicted > 0, config.kv_tokens < 200, "{stats:?}");
        assert_eq!((stats.failed, stats.cancelled), (0, 0));
    }
}

#[test]
fn recorded_log_probabilities_are_those_of_a_whole_forward_pass() {
    let engine = engine(Config { max_running: 2, step_tokens: 3, ..Config::default() });
    let model = model();
    for (temperature, divisor) in [(0.7, 0.7), (0.0, 1.0)] {
        let sampling = Sampling { temperature, seed: Some(3), ..Sampling::greedy(12) };
        let request = GenerateRequest { sampling, ..request(&[1, 5, 9, 200, 31], None, 12) };
        let record = complete(&engine, request).unwrap().tokens.unwrap();
        assert_eq!(record.logprobs_exact, temperature > 0.0);
        assert_eq!(record.base_digest, model.digests.base);
        let all = [record.prompt_ids.as_slice(), record.completion_ids.as_slice()].concat();
        let hidden = model.decoder.hidden(&Batch::of(&[&all]), None).unwrap();
        let terms: Vec<Term> = (record.prompt_ids.len()..all.len())
            .map(|at| Term { row: at - 1, target: all[at] })
            .collect();
        let whole = model.decoder.log_probs(&hidden, &terms, divisor).unwrap().log_probs;
        assert_eq!(record.sampling_logprobs.len(), whole.len());
        for (ours, whole) in record.sampling_logprobs.iter().zip(&whole) {
            assert!((ours - whole).abs() < 1e-4, "{ours} against {whole}");
        }
    }
}

#[test]
fn a_seed_draws_the_same_in_any_company_and_is_recorded() {
    let engine = engine(Config::default());
    let seeded = |seed| {
        let sampling = Sampling { temperature: 1.0, seed, ..Sampling::greedy(10) };
        GenerateRequest { sampling, ..request(&[40, 41, 42], None, 10) }
    };
    let alone = complete(&engine, seeded(Some(5))).unwrap();
    let crowd: Vec<Reply> =
        (0..8).map(|seed| submit(&engine, seeded(Some(seed))).unwrap()).collect();
    let crowd: Vec<Completion> = crowd.into_iter().map(|reply| reply.end().unwrap()).collect();
    assert_eq!(ids(&crowd[5]), ids(&alone));
    assert_ne!(ids(&crowd[4]), ids(&alone));
    // Without a seed one is drawn, and with it the answer can be had again.
    let free = complete(&engine, seeded(None)).unwrap();
    let seed = free.tokens.as_ref().unwrap().sampling.seed;
    assert!(seed.is_some());
    assert_eq!(ids(&complete(&engine, seeded(seed)).unwrap()), ids(&free));
}

#[test]
fn a_list_is_batched_the_same_way_every_time_and_is_taken_whole_or_not_at_all() {
    let run = || {
        let engine = engine(Config::default());
        let (sender, receiver) = mpsc::channel();
        let requests = (0..12_u32).map(|nth| {
            let sender = sender.clone();
            let mut request = request(&[1, 2, 3, nth + 10], None, 12 + nth);
            request.sampling.temperature = 1.0;
            request.sampling.seed = Some(u64::from(nth));
            let sink: Sink = Box::new(move |event| {
                if let Event::Finished(completion) = event {
                    sender.send((nth, completion.tokens)).unwrap();
                }
                ControlFlow::Continue(())
            });
            (request, sink)
        });
        engine.submit_all(requests.collect()).unwrap();
        let mut all: Vec<_> = (0..12).map(|_| receiver.recv_timeout(PATIENCE).unwrap()).collect();
        all.sort_by_key(|(nth, _)| *nth);
        all
    };
    assert_eq!(run(), run(), "to the last bit of every log-probability");

    let engine = engine(Config { max_waiting: 3, ..Config::default() });
    let sink = || -> Sink { Box::new(|_| ControlFlow::Continue(())) };
    let many = (0..4).map(|_| (request(&[1, 2], None, 1), sink())).collect();
    assert!(matches!(engine.submit_all(many), Err(InferenceError::Busy(3))));
    settle(&engine);
    assert_eq!(engine.stats().waiting, 0, "a refused list leaves no one waiting");
}

#[test]
fn requests_of_one_list_read_what_they_share_once() {
    let engine = engine(Config::default());
    let shared: Vec<u32> = (0..80).collect();
    let (sender, receiver) = mpsc::channel();
    let requests = (0..8).map(|n| {
        let prompt: Vec<u32> = shared.iter().copied().chain([200 + n]).collect();
        let sender = sender.clone();
        let sink: Sink = Box::new(move |event| {
            sender.send((n, event)).unwrap();
            ControlFlow::Continue(())
        });
        (request(&prompt, None, 6), sink)
    });
    engine.submit_all(requests.collect()).unwrap();
    let mut answers = BTreeMap::new();
    while answers.len() < 8 {
        if let (n, Event::Finished(completion)) = receiver.recv_timeout(PATIENCE).unwrap() {
            answers.insert(n, ids(&completion).to_vec());
        }
    }
    let reused = if shares_blocks() { 7 * 80 } else { 0 };
    assert_eq!(engine.stats().reused_tokens, reused);
    for (n, answer) in answers {
        let prompt: Vec<u32> = shared.iter().copied().chain([200 + n]).collect();
        assert_eq!(answer, greedy(&prompt, None, 6));
    }
}
