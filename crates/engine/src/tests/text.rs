use understudy_inference::FinishReason;

use super::*;

/// A prompt whose greedy answer has some text before anything ends it.
fn talkative(engine: &Engine) -> (Vec<u32>, Completion) {
    let mut prompts = (0..200_u32).map(|n| vec![n, 3 * n % 256, 77]);
    prompts
        .find_map(|prompt| {
            let completion = complete(engine, request(&prompt, None, 40)).unwrap();
            (completion.text.chars().count() >= 8).then_some((prompt, completion))
        })
        .expect("some prompt makes the model talk")
}

#[test]
fn deltas_joined_are_the_text_and_hold_whole_characters() {
    let engine = engine(Config::default());
    let model = model();
    for n in 0..40 {
        let sampling = Sampling { temperature: 1.5, seed: Some(n), ..Sampling::greedy(40) };
        let request = GenerateRequest { sampling, ..request(&[n as u32, 9], None, 1) };
        let (text, end) = submit(&engine, request).unwrap().all();
        let completion = end.unwrap();
        assert_eq!(text, completion.text);
        // Random bytes are seldom whole characters, which makes this the hard case.
        let whole = model.tokenizer.decode_text(ids(&completion)).unwrap();
        assert_eq!(text.trim_end_matches('\u{FFFD}'), whole.trim_end_matches('\u{FFFD}'));
        assert!(whole.starts_with(&text));
    }
}

#[test]
fn a_stop_string_ends_the_text_before_itself() {
    let engine = engine(Config::default());
    let (prompt, whole) = talkative(&engine);
    let stop: String = whole.text.chars().skip(4).take(3).collect();
    let sampling = Sampling { stop: vec![stop.clone()], ..Sampling::greedy(40) };
    let stopped = GenerateRequest { sampling, ..request(&prompt, None, 40) };
    let (text, end) = submit(&engine, stopped).unwrap().all();
    let completion = end.unwrap();
    assert_eq!(completion.finish_reason, FinishReason::Stop);
    assert_eq!(text, whole.text.split(&stop).next().unwrap());
    assert_eq!(completion.text, text);
    let sampled = ids(&completion).len();
    assert!(sampled < ids(&whole).len() && ids(&whole).starts_with(ids(&completion)));
    assert_eq!(completion.usage.completion_tokens as usize, sampled);
}

#[test]
fn the_end_of_turn_is_recorded_but_not_shown() {
    let engine = engine(Config::default());
    let eos = model().tokenizer.eos()[0];
    let ended = (0..400).find_map(|seed| {
        let sampling = Sampling { temperature: 2.0, seed: Some(seed), ..Sampling::greedy(60) };
        let request = GenerateRequest { sampling, ..request(&[1, 2, 3], None, 60) };
        let completion = complete(&engine, request).unwrap();
        (ids(&completion).last() == Some(&eos)).then_some(completion)
    });
    let completion = ended.expect("some draw ends the turn");
    assert_eq!(completion.finish_reason, FinishReason::Stop);
    assert!(!completion.text.contains("<|im_end|>"));
}

#[test]
fn a_limit_within_a_character_leaves_its_bytes_out() {
    let engine = engine(Config::default());
    let model = model();
    let cut = (0..400).find_map(|seed| {
        let sampling = Sampling { temperature: 2.0, seed: Some(seed), ..Sampling::greedy(1) };
        let request = GenerateRequest { sampling, ..request(&[1, 2, 3], None, 1) };
        let (text, end) = submit(&engine, request).unwrap().all();
        let completion = end.unwrap();
        let alone = model.tokenizer.decode_text(ids(&completion)).unwrap();
        (alone == "\u{FFFD}").then_some((text, completion))
    });
    let (text, completion) = cut.expect("some draw is half a character");
    assert_eq!((text.as_str(), completion.text.as_str()), ("", ""));
    assert_eq!(completion.finish_reason, FinishReason::Length);
    assert_eq!(completion.usage.completion_tokens, 1);
}
