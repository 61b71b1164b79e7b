//! Completions that must belong to a language, of a model that has never seen any.

use serde_json::{Value, json};
use understudy_inference::{Constraint, FinishReason, StopReason};

use super::*;

fn schema() -> Value {
    json!({"type": "object", "additionalProperties": false, "required": ["name", "tags"],
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "tags": {"type": "array", "items": {"enum": ["red", "green"]}, "maxItems": 3},
    }})
}

fn constrained(constraint: Constraint, temperature: f32, seed: u64) -> Sampling {
    let constraint = Some(constraint);
    Sampling { constraint, temperature, seed: Some(seed), ..Sampling::greedy(200) }
}

#[test]
fn whatever_the_model_is_like_the_answer_parses() {
    let engine = engine(Config::default());
    for n in 0..24 {
        let temperature = if n % 3 == 0 { 0.0 } else { 1.5 };
        let sampling = constrained(Constraint::JsonSchema(schema()), temperature, u64::from(n));
        let (text, end) = submit(&engine, sampled(&[n, 3 * n, 77], sampling)).unwrap().all();
        let completion = end.unwrap();
        assert_eq!(text, completion.text);
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert!(value["name"].is_string() && value["tags"].is_array(), "{text}");
        assert_eq!(completion.finish_reason, FinishReason::Stop);
        let record = completion.tokens.unwrap();
        assert!(!record.logprobs_exact);
        assert_eq!(record.sampling_logprobs.len(), record.completion_ids.len());
    }
}

#[test]
fn what_is_certain_is_read_as_one_and_scored_as_if_drawn() {
    let engine = engine(Config { prefix_tokens: 0, ..Config::default() });
    let word = "considerably longer than one token";
    let sampling = constrained(Constraint::Choice(vec![word.to_owned()]), 0.0, 0);
    let completion = complete(&engine, sampled(&[1, 2, 3], sampling)).unwrap();
    assert_eq!((completion.text.as_str(), completion.finish_reason), (word, FinishReason::Stop));
    let stats = engine.stats();
    assert_eq!(stats.steps, 1, "prompt and completion ran together: {stats:?}");
    assert_eq!(stats.completion_tokens as usize, word.len());
    // The recorded log-probabilities are the model's own.
    let record = completion.tokens.unwrap();
    let all = [record.prompt_ids.as_slice(), &record.completion_ids].concat();
    let model = model();
    let hidden = model.decoder.hidden(&Batch::of(&[&all]), None).unwrap();
    let terms: Vec<understudy_model::Term> =
        (3..all.len()).map(|at| understudy_model::Term { row: at - 1, target: all[at] }).collect();
    let whole = model.decoder.log_probs(&hidden, &terms, 1.0).unwrap().log_probs;
    for (ours, whole) in record.sampling_logprobs.iter().zip(&whole) {
        assert!((ours - whole).abs() < 1e-4, "{ours} against {whole}");
    }
}

#[test]
fn a_limit_cuts_and_says_so() {
    let engine = engine(Config::default());
    for max_tokens in 1..14 {
        let whole = constrained(Constraint::JsonSchema(schema()), 0.0, 0);
        let sampling = Sampling { max_tokens, ..whole };
        let completion = complete(&engine, sampled(&[5, 6], sampling)).unwrap();
        assert_eq!(completion.finish_reason, FinishReason::Length);
        assert_eq!(completion.usage.completion_tokens, max_tokens);
        assert!(serde_json::from_str::<Value>(&completion.text).is_err());
    }
}

#[test]
fn a_stop_within_what_must_follow_ends_it_there() {
    let engine = engine(Config::default());
    let constraint = Constraint::Regex("one two three four[ab]".into());
    let stopped = Sampling {
        stop: vec!["three".to_owned()],
        include_stop: true,
        ..constrained(constraint, 0.0, 0)
    };
    let completion = complete(&engine, sampled(&[1, 2], stopped)).unwrap();
    assert_eq!(completion.text, "one two three");
    assert_eq!(completion.stop_reason, Some(StopReason::Text("three".to_owned())));
    assert_eq!(ids(&completion).len(), "one two three".len(), "no more than was said is recorded");
    // What was left behind serves a prompt that begins alike.
    let again = [&[1, 2], ids(&completion)].concat();
    let longer = complete(&engine, request(&again, None, 4)).unwrap();
    assert_eq!(ids(&longer), greedy(&again, None, 4));
}

#[test]
fn forbidden_and_allowed_tokens_hold_for_what_must_follow_too() {
    let engine = engine(Config::default());
    let choice = || Constraint::Choice(vec!["abc".to_owned(), "xyz".to_owned()]);
    let bad_words = vec!["yz".to_owned()];
    let limited = Sampling { bad_words, ..constrained(choice(), 0.0, 0) };
    for n in 0..10 {
        match complete(&engine, sampled(&[n, 9], limited.clone())) {
            Ok(completion) => assert_eq!(completion.text, "abc"),
            Err(error) => assert!(matches!(error, InferenceError::Invalid { .. }), "{error}"),
        }
    }
    let wrong = constrained(Constraint::Regex("(".into()), 0.0, 0);
    let refused = submit(&engine, sampled(&[1], wrong)).err().unwrap();
    assert!(matches!(refused, InferenceError::Invalid { field: "constraint", .. }));
}

#[test]
fn several_completions_of_one_prompt_each_find_their_own_way() {
    let engine = engine(Config { max_running: 4, step_tokens: 9, ..Config::default() });
    let one = |seed| {
        let sampling = constrained(Constraint::JsonSchema(schema()), 1.2, seed);
        sampled(&[40, 41, 42], sampling)
    };
    let alone: Vec<Completion> = (0..6).map(|seed| complete(&engine, one(seed)).unwrap()).collect();
    let (sender, receiver) = mpsc::channel();
    let listed = (0..6).map(|seed| {
        let sender = sender.clone();
        let sink: understudy_inference::Sink = Box::new(move |event| {
            if let Event::Finished(completion) = event {
                sender.send((seed, completion)).unwrap();
            }
            ControlFlow::Continue(())
        });
        (one(seed), sink)
    });
    engine.submit_all(listed.collect()).unwrap();
    for _ in 0..6 {
        let (seed, completion) = receiver.recv_timeout(PATIENCE).unwrap();
        assert_eq!(ids(&completion), ids(&alone[seed as usize]));
    }
    assert!(alone.windows(2).any(|pair| pair[0].text != pair[1].text));
}
