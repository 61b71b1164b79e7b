//! What a request is told about its tokens.

use understudy_inference::{Delta, FinishReason, LogProbsOf, Returns, ScoredToken, StopReason};

use super::*;

/// All tokens of all deltas.
fn streamed(reply: Reply) -> (Vec<ScoredToken>, Completion) {
    let (mut tokens, mut end) = (Vec::new(), None);
    while let Some(event) = reply.next() {
        match event {
            Event::Delta(Delta { tokens: more, .. }) => tokens.extend(more),
            Event::Finished(completion) => end = Some(*completion),
            Event::Failed(error) => panic!("{error}"),
            Event::Started(_) => {}
        }
    }
    (tokens, end.unwrap())
}

/// log softmax of the scores after each token.
fn rows(tokens: &[u32]) -> Vec<Vec<f32>> {
    let model = model();
    let hidden = model.decoder.hidden(&Batch::of(&[tokens]), None).unwrap();
    let rows = model.decoder.logits(&hidden).unwrap().to_vec2::<f32>().unwrap();
    let normal = |row: Vec<f32>| {
        let max = row.iter().copied().fold(f32::MIN, f32::max);
        let sum: f32 = row.iter().map(|z| (z - max).exp()).sum();
        row.iter().map(|z| z - max - sum.ln()).collect()
    };
    rows.into_iter().map(normal).collect()
}

fn assert_scored(scored: &ScoredToken, row: &[f32], top: usize) {
    let own = row[scored.id as usize];
    assert!((scored.log_prob - own).abs() < 1e-4, "{} against {own}", scored.log_prob);
    let better = row.iter().filter(|other| **other > own + 1e-5).count() as u32;
    assert!(scored.rank.is_some_and(|rank| rank > better));
    assert_eq!(scored.top.len(), top);
    assert!(scored.top.windows(2).all(|pair| pair[0].log_prob >= pair[1].log_prob));
    for one in &scored.top {
        assert!((one.log_prob - row[one.id as usize]).abs() < 1e-4);
    }
    let best = row.iter().copied().fold(f32::MIN, f32::max);
    assert!(top == 0 || (scored.top[0].log_prob - best).abs() < 1e-4);
}

#[test]
fn prompt_and_completion_are_scored_by_a_whole_forward_pass() {
    let prompt: Vec<u32> = (30..70).collect();
    let model = model();
    for config in [
        Config::default(),
        Config { max_running: 2, step_tokens: 7, ..Config::default() },
        Config { kv_tokens: 62, step_tokens: 33, ..Config::default() },
    ] {
        let engine = engine(config);
        // What is cached must be run all the same where scores are asked for.
        complete(&engine, request(&prompt, None, 2)).unwrap();
        let sampling = Sampling { temperature: 0.8, seed: Some(1), ..Sampling::greedy(9) };
        let returns = Returns { top: Some(4), prompt_top: Some(2), ..Returns::default() };
        let returns = || returns.clone();
        let request =
            || GenerateRequest { returns: returns(), ..sampled(&prompt, sampling.clone()) };
        let replies: Vec<Reply> = (0..2).map(|_| submit(&engine, request()).unwrap()).collect();
        for reply in replies {
            let (tokens, completion) = streamed(reply);
            assert_eq!(tokens.iter().map(|token| token.id).collect::<Vec<_>>(), ids(&completion));
            let all = [prompt.as_slice(), ids(&completion)].concat();
            let rows = rows(&all);
            for (at, scored) in tokens.iter().enumerate() {
                assert_scored(scored, &rows[prompt.len() + at - 1], 4);
                let bytes = model.tokenizer.token_bytes(scored.id).unwrap_or_default();
                assert_eq!(scored.bytes, bytes);
            }
            let scores = completion.prompt_scores.unwrap();
            assert_eq!((scores.len(), &scores[0]), (prompt.len(), &None));
            for (at, scored) in scores.iter().enumerate().skip(1) {
                let scored = scored.as_ref().unwrap();
                assert_eq!(scored.id, prompt[at]);
                assert_scored(scored, &rows[at - 1], 2);
            }
            assert_eq!(completion.usage.cached_tokens, 0);
        }
    }
}

#[test]
fn nothing_asked_is_nothing_told_and_cached_tokens_are_counted() {
    let engine = engine(Config::default());
    let prompt: Vec<u32> = (30..70).collect();
    complete(&engine, request(&prompt, None, 2)).unwrap();
    let (tokens, completion) = streamed(submit(&engine, request(&prompt, None, 3)).unwrap());
    assert!(tokens.iter().all(|token| token.rank.is_none() && token.top.is_empty()));
    let recorded = completion.tokens.as_ref().unwrap().sampling_logprobs.iter();
    assert!(recorded.zip(&tokens).all(|(own, told)| *own == told.log_prob));
    assert_eq!(completion.prompt_scores, None);
    let shared = if shares_blocks() { 32 } else { 0 };
    assert_eq!(completion.usage.cached_tokens, shared, "whole blocks, without the last token");
    let salted = |salt: &str| {
        let mut request = request(&prompt, None, 3);
        request.admission.cache_salt = Some(salt.to_owned());
        complete(&engine, request).unwrap().usage.cached_tokens
    };
    assert_eq!((salted("a"), salted("a"), salted("b")), (0, shared, 0));
}

#[test]
fn processed_scores_are_those_of_what_was_drawn_from() {
    let engine = engine(Config::default());
    let sampling = Sampling { temperature: 0.7, top_k: 3, seed: Some(2), ..Sampling::greedy(8) };
    let log_probs = Some(LogProbsOf::Processed);
    let returns = Returns { top: Some(9), log_probs, ..Returns::default() };
    let request = GenerateRequest { returns, ..sampled(&[4, 5, 6], sampling) };
    let (tokens, completion) = streamed(submit(&engine, request).unwrap());
    for token in &tokens {
        assert_eq!(token.top.len(), 3, "no more could have come");
        let sum: f32 = token.top.iter().map(|top| top.log_prob.exp()).sum();
        assert!((sum - 1.0).abs() < 1e-5);
    }
    let record = completion.tokens.unwrap();
    assert!(!record.logprobs_exact, "a cut distribution");
    assert_ne!(record.sampling_logprobs[0], tokens[0].log_prob);
}

#[test]
fn named_tokens_are_scored_at_every_place_however_unlikely_they_are() {
    let engine = engine(Config::default());
    let prompt = [4, 5, 6];
    let sampling = Sampling { temperature: 0.8, top_k: 3, seed: Some(2), ..Sampling::greedy(6) };
    let vocab = model().decoder.config().vocab as u32;
    let told = |log_probs, top, named: &[u32]| {
        let returns =
            Returns { top, named: named.to_vec(), log_probs: Some(log_probs), prompt_top: None };
        let request = GenerateRequest { returns, ..sampled(&prompt, sampling.clone()) };
        streamed(submit(&engine, request).unwrap())
    };
    let everything: Vec<u32> = (0..vocab).rev().collect();
    let (tokens, completion) = told(LogProbsOf::Raw, None, &everything);
    let rows = rows(&[&prompt, ids(&completion)].concat());
    for (at, token) in tokens.iter().enumerate() {
        let row = &rows[prompt.len() + at - 1];
        assert_scored(&ScoredToken { top: Vec::new(), ..token.clone() }, row, 0);
        assert_eq!(token.top.iter().map(|one| one.id).collect::<Vec<_>>(), everything);
        for one in &token.top {
            assert!((one.log_prob - row[one.id as usize]).abs() < 1e-4, "{one:?}");
        }
    }
    // Beside the likeliest, each is told once.
    let best = told(LogProbsOf::Raw, Some(2), &[]).0[0].top.clone();
    let (first, second) = (best[0].id, best[1].id);
    let other = (0..vocab).find(|id| ![first, second].contains(id)).unwrap();
    let beside = told(LogProbsOf::Raw, Some(2), &[other, second, other]).0[0].top.clone();
    assert_eq!(beside.iter().map(|one| one.id).collect::<Vec<_>>(), [first, second, other]);
    // What was cut off could not have come.
    let (tokens, _) = told(LogProbsOf::Processed, None, &everything);
    for token in &tokens {
        let possible = token.top.iter().filter(|one| one.log_prob.is_finite());
        let sum: f32 = possible.clone().map(|one| one.log_prob.exp()).sum();
        assert!(possible.count() == 3 && (sum - 1.0).abs() < 1e-5, "{sum}");
    }
    let returns = Returns { named: vec![vocab], ..Returns::default() };
    let error = submit(&engine, GenerateRequest { returns, ..sampled(&prompt, sampling) }).err();
    let named = matches!(error, Some(InferenceError::Invalid { field: "logprob_token_ids", .. }));
    assert!(named, "{error:?}");
}

#[test]
fn whose_scores_nobody_asked_for_are_those_the_engine_is_set_to() {
    let told = |logprobs_mode, log_probs| {
        let engine = engine(Config { logprobs_mode, ..Config::default() });
        let sampling = Sampling { top_k: 3, seed: Some(2), ..Sampling::greedy(4) };
        let sampling = Sampling { temperature: 0.7, ..sampling };
        let returns = Returns { top: Some(9), log_probs, ..Returns::default() };
        let request = GenerateRequest { returns, ..sampled(&[4, 5, 6], sampling) };
        streamed(submit(&engine, request).unwrap()).0
    };
    let (raw, processed) = (LogProbsOf::Raw, LogProbsOf::Processed);
    assert_eq!(told(raw, None), told(processed, Some(raw)));
    assert_eq!(told(processed, None), told(raw, Some(processed)));
    assert_ne!(told(raw, None), told(processed, None));
}

/// A greedy answer of some length and the ids in it.
fn talk(engine: &Engine) -> (Vec<u32>, Vec<u32>) {
    let end = model().tokenizer.eos()[0];
    let mut prompts = (0..200_u32).map(|n| vec![n, 3 * n % 256, 77]);
    let long = |prompt: Vec<u32>| {
        let completion = complete(engine, request(&prompt, None, 12)).unwrap();
        let said = ids(&completion).to_vec();
        (said.len() == 12 && !said.contains(&end)).then_some((prompt, said))
    };
    prompts.find_map(long).expect("some prompt makes the model talk")
}

#[test]
fn a_token_may_end_a_completion_but_not_too_soon() {
    let engine = engine(Config::default());
    let (prompt, said) = talk(&engine);
    let first = said.iter().position(|id| *id == said[4]).unwrap();
    let stopping = Sampling { stop_token_ids: vec![said[4]], ..Sampling::greedy(12) };
    let stopped = complete(&engine, sampled(&prompt, stopping.clone())).unwrap();
    assert_eq!(ids(&stopped), &said[..=first]);
    assert_eq!(stopped.finish_reason, FinishReason::Stop);
    assert_eq!(stopped.stop_reason, Some(StopReason::Token(said[4])));
    let later = Sampling { min_tokens: 8, ..stopping };
    let later = complete(&engine, sampled(&prompt, later)).unwrap();
    assert!(ids(&later).len() >= 8 && !ids(&later)[..8].contains(&said[4]));
}

#[test]
fn the_models_own_end_can_be_ignored_shown_and_put_off() {
    let engine = engine(Config::default());
    let end = model().tokenizer.eos()[0];
    let ending = Sampling { logit_bias: [(end, 100.0)].into(), ..Sampling::greedy(5) };
    let of = |sampling: Sampling| complete(&engine, sampled(&[1, 2], sampling)).unwrap();
    let at_once = of(ending.clone());
    assert_eq!((ids(&at_once), at_once.text.as_str()), (&[end][..], ""));
    assert_eq!((at_once.finish_reason, at_once.stop_reason), (FinishReason::Stop, None));
    let ignored = of(Sampling { ignore_eos: true, show_special: true, ..ending.clone() });
    assert_eq!(ids(&ignored), [end; 5]);
    assert_eq!(ignored.text, "<|im_end|>".repeat(5));
    assert_eq!(ignored.finish_reason, FinishReason::Length);
    let hidden = of(Sampling { ignore_eos: true, ..ending.clone() });
    assert_eq!(hidden.text, "");
    let put_off = of(Sampling { min_tokens: 3, ..ending.clone() });
    assert_eq!(ids(&put_off).iter().position(|id| *id == end), Some(3));
    let shown = of(Sampling { include_stop: true, show_special: true, ..ending });
    assert_eq!(shown.text, "<|im_end|>");
}

#[test]
fn a_stop_text_is_kept_where_asked_and_not_looked_for_too_soon() {
    let engine = engine(Config::default());
    let letter = |text: &str| model().tokenizer.encode(text).unwrap()[0];
    let only = Sampling {
        allowed_token_ids: Some(vec![letter("a")]),
        stop: vec!["aa".to_owned()],
        ..Sampling::greedy(9)
    };
    let of = |sampling: Sampling| complete(&engine, sampled(&[1, 2], sampling)).unwrap();
    let stopped = of(only.clone());
    assert_eq!((stopped.text.as_str(), ids(&stopped).len()), ("", 2));
    assert_eq!(stopped.stop_reason, Some(StopReason::Text("aa".to_owned())));
    assert_eq!(of(Sampling { include_stop: true, ..only.clone() }).text, "aa");
    let late = of(Sampling { min_tokens: 4, include_stop: true, ..only });
    assert!(ids(&late).len() >= 4 && late.text.len() == ids(&late).len(), "{}", late.text);
}

#[test]
fn forbidden_texts_do_not_come() {
    let engine = engine(Config::default());
    let (a, b) =
        (model().tokenizer.encode("a").unwrap()[0], model().tokenizer.encode("b").unwrap()[0]);
    let sampling = |seed| Sampling {
        allowed_token_ids: Some(vec![a, b]),
        bad_words: vec!["aba".to_owned(), "bb".to_owned()],
        temperature: 1.0,
        seed: Some(seed),
        ..Sampling::greedy(20)
    };
    for seed in 0..10 {
        let text = match complete(&engine, sampled(&[1, 2], sampling(seed))) {
            Ok(completion) => completion.text,
            // Two letters can be led into a corner: after `ab` neither may come.
            Err(InferenceError::Invalid { field: "sampling", .. }) => continue,
            Err(error) => panic!("{error}"),
        };
        assert!(!text.contains("aba") && !text.contains("bb"), "{text}");
    }
    for (sampling, field) in [
        (Sampling { logit_bias: [(9_999, 1.0)].into(), ..Sampling::greedy(1) }, "logit_bias"),
        (Sampling { stop_token_ids: vec![9_999], ..Sampling::greedy(1) }, "stop_token_ids"),
        (
            Sampling { allowed_token_ids: Some(vec![9_999]), ..Sampling::greedy(1) },
            "allowed_token_ids",
        ),
    ] {
        let error = submit(&engine, sampled(&[1], sampling)).err().unwrap();
        assert!(matches!(error, InferenceError::Invalid { field: named, .. } if named == field));
    }
}
