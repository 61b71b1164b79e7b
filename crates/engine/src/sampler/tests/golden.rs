//! Against transformers' own processors; see tests/golden/make_sampler_golden.py.

use std::{fs, path::Path, sync::Arc};

use serde::Deserialize;
use understudy_model::Tokenizer;

use super::*;

#[derive(Deserialize)]
struct Case {
    name: String,
    sampling: Sampling,
    logits: Vec<f32>,
    prompt: Vec<u32>,
    completion: Vec<u32>,
    /// How many tokens could come.
    kept: usize,
    /// The likeliest of them and their log-probabilities.
    top: Vec<(u32, f64)>,
}

/// The likelihood of everything that could come next.
fn processed(case: &Case, tokenizer: &Tokenizer) -> Vec<(u32, f32)> {
    let spellings = Arc::new(Spellings::of(tokenizer, false));
    let bad_words = Some(BadWords::new(&case.sampling.bad_words, spellings));
    let around = Surroundings { prompt: &case.prompt, ends: tokenizer.eos().to_vec(), bad_words };
    let everything = Some(case.logits.len());
    let log_probs = Some(LogProbsOf::Processed);
    let returns = Returns { top: everything, log_probs, ..Returns::default() };
    let mut sampler = Sampler::new(&case.sampling, 1, returns, around);
    for token in &case.completion {
        sampler.observe(*token, tokenizer.token_bytes(*token).unwrap());
    }
    sampler.draw(&case.logits, &case.completion, None).unwrap().scored.top
}

#[test]
fn what_is_left_is_what_transformers_leaves() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/sampler.json");
    let cases: Vec<Case> = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    assert!(cases.len() > 20);
    let tokenizer = Tokenizer::byte_level().unwrap();
    for case in &cases {
        let ours = processed(case, &tokenizer);
        assert_eq!(ours.len(), case.kept, "{}", case.name);
        for ((id, log_prob), (expected_id, expected)) in ours.iter().zip(&case.top) {
            assert_eq!(id, expected_id, "{}", case.name);
            let off = (f64::from(*log_prob) - expected).abs();
            assert!(off < 2e-5, "{}: {id} is off by {off}", case.name);
        }
    }
}
