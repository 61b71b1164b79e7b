//! Any request gets in any company exactly what it gets alone.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use understudy_inference::{Admission, Constraint, LogProbsOf, Returns};

use super::*;

/// A request with a bit of everything.
fn any(random: &mut ChaCha8Rng) -> GenerateRequest {
    let mut either = |share: f64| random.random_bool(share);
    let (edited, cut, told, shared, adapter) =
        (either(0.4), either(0.4), either(0.3), either(0.5), either(0.5));
    let constrained = either(0.35);
    let mut prompt: Vec<u32> = if shared { (40..70).collect() } else { Vec::new() };
    prompt.extend((0..random.random_range(1..25)).map(|_| random.random_range(0..256_u32)));
    let mut sampling = Sampling {
        temperature: [0.0, 0.7, 1.0, 1.6][random.random_range(0..4)],
        seed: Some(random.random_range(0..5)),
        ..Sampling::greedy(random.random_range(1..22))
    };
    if edited {
        sampling.repetition_penalty = random.random_range(0.7..1.6);
        sampling.frequency_penalty = random.random_range(-1.0..1.0);
        sampling.presence_penalty = random.random_range(-1.0..1.0);
        sampling.logit_bias = [(random.random_range(0..256), 4.0)].into();
        sampling.bad_words = vec!["e".to_owned(), "ab".to_owned()];
        sampling.min_tokens = sampling.max_tokens / 2;
    }
    if cut {
        sampling.top_k = random.random_range(0..30);
        sampling.top_p = random.random_range(0.3..1.0);
        sampling.min_p = random.random_range(0.0..0.05);
    }
    if constrained {
        // What is forbidden may be what is certain.
        sampling.bad_words.clear();
        let object = json!({"type": "object", "properties": {"name": {"type": "string"},
            "sure": {"type": "boolean"}}, "required": ["name", "sure"],
            "additionalProperties": false});
        sampling.constraint = Some(match random.random_range(0..4) {
            0 => Constraint::JsonSchema(object),
            1 => Constraint::Regex("[a-f ]{4,30}\\.".to_owned()),
            2 => Constraint::Choice(["yes, certainly", "yes", "no"].map(str::to_owned).into()),
            _ => Constraint::Grammar("start: \"one two \" [\"three\"] start | \".\"".to_owned()),
        });
    }
    let returns = Returns {
        top: told.then_some(3),
        named: if told && random.random_bool(0.5) { vec![7, 200, 7] } else { Vec::new() },
        prompt_top: (told && random.random_bool(0.5)).then_some(1),
        log_probs: [None, Some(LogProbsOf::Processed)][random.random_range(0..2)],
    };
    let priority = random.random_range(-1..2);
    let admission = Admission { priority, ..Admission::default() };
    let alias = adapter.then(|| format!("a{}", random.random_range(0..2)));
    GenerateRequest { returns, admission, ..sampled(&prompt, sampling) }.with_adapter(alias)
}

fn assert_same(there: &Completion, here: &Completion, request: &GenerateRequest) {
    assert_eq!(ids(there), ids(here), "{request:?}");
    assert_eq!(there.text, here.text);
    assert_eq!((there.finish_reason, &there.stop_reason), (here.finish_reason, &here.stop_reason));
    let log_probs = |one: &Completion| {
        let record = one.tokens.as_ref().unwrap();
        let prompt = one.prompt_scores.iter().flatten().flatten().map(|scored| scored.log_prob);
        record.sampling_logprobs.iter().copied().chain(prompt).collect::<Vec<f32>>()
    };
    let (there, here) = (log_probs(there), log_probs(here));
    assert_eq!(there, here, "to the last bit: {request:?}");
}

#[test]
fn any_mix_in_any_batch_is_answered_as_if_alone() {
    mix_and_compare(KvCacheDtype::F32);
}

#[test]
fn so_it_is_with_rounded_keys_and_values() {
    if here().is_cpu() {
        mix_and_compare(KvCacheDtype::F16);
    } else {
        let config = Config { kv_cache_dtype: KvCacheDtype::F16, ..Config::default() };
        let Err(error) = Engine::start(model(), "tiny", config) else { panic!("it was taken") };
        assert!(error.to_string().contains("kv_cache_dtype"), "{error}");
    }
}

fn mix_and_compare(kv_cache_dtype: KvCacheDtype) {
    let root = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = (0..2).map(|seed| write_adapter(&root, seed)).collect();
    let start = |config| {
        let engine = engine(Config { kv_cache_dtype, ..config });
        for (n, path) in paths.iter().enumerate() {
            engine.load_adapter(&format!("a{n}"), path).unwrap();
        }
        engine
    };
    let mut random = ChaCha8Rng::seed_from_u64(6);
    let alone = start(Config { prefix_tokens: 0, ..Config::default() });
    let cases: Vec<(GenerateRequest, Completion)> = (0..70)
        .map(|_| any(&mut random))
        .map(|request| (request.clone(), complete(&alone, request).unwrap()))
        .collect();
    let forced = cases.iter().filter(|(request, _)| request.sampling.constraint.is_some());
    assert!(forced.count() > 15);
    for config in [
        Config::default(),
        Config { max_running: 3, step_tokens: 5, ..Config::default() },
        Config { kv_tokens: 120, step_tokens: 40, prefix_tokens: 60, ..Config::default() },
    ] {
        let engine = start(config);
        for round in 0..3 {
            let mut order: Vec<usize> = (0..cases.len()).collect();
            order.sort_by_cached_key(|_| random.random::<u32>());
            let replies: Vec<(usize, Reply)> = order
                .into_iter()
                .map(|case| (case, submit(&engine, cases[case].0.clone()).unwrap()))
                .collect();
            for (case, reply) in replies {
                let (request, expected) = &cases[case];
                assert_same(expected, &reply.end().unwrap(), request);
            }
            assert_eq!(engine.stats().failed, 0, "round {round}");
        }
        assert_eq!(engine.stats().evicted > 0, config.kv_tokens < 200);
    }
}
