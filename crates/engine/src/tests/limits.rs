use understudy_inference::FinishReason;
use understudy_message::Message;

use super::*;
use crate::EngineError;

fn refused(engine: &Engine, request: GenerateRequest) -> InferenceError {
    submit(engine, request).err().expect("the request is refused at once")
}

#[test]
fn a_request_that_cannot_be_served_is_refused_before_it_waits() {
    let engine = engine(Config { kv_tokens: 100, ..Config::default() });
    assert_eq!(engine.context(), 100);
    let error = refused(&engine, request(&[5; 100], None, 4));
    assert_eq!(
        error,
        InferenceError::ContextOverflow { prompt_tokens: 100, max_tokens: 4, limit: 100 }
    );
    for bad in [vec![], vec![9_999]] {
        assert!(matches!(refused(&engine, request(&bad, None, 4)), InferenceError::Invalid { .. }));
    }
    assert!(matches!(refused(&engine, request(&[1], None, 0)), InferenceError::Invalid { .. }));
    let silent = GenerateRequest { prompt: Prompt::messages(Vec::new()), ..request(&[1], None, 4) };
    assert!(matches!(refused(&engine, silent), InferenceError::Invalid { .. }));
    assert_eq!(engine.stats().waiting, 0);
}

#[test]
fn messages_are_rendered_with_a_generation_prompt() {
    let engine = engine(Config::default());
    let prompt = Prompt::messages(vec![Message::user("hi")]);
    let completion =
        complete(&engine, GenerateRequest { prompt, ..request(&[1], None, 2) }).unwrap();
    let model = model();
    let text = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(completion.tokens.unwrap().prompt_ids, model.tokenizer.encode(text).unwrap());
}

#[test]
fn a_completion_ends_where_the_context_does() {
    let engine = engine(Config { kv_tokens: 40, ..Config::default() });
    let prompt = [1, 5, 9, 200, 31];
    let completion = complete(&engine, request(&prompt, None, 500)).unwrap();
    let expected = greedy(&prompt, None, 35);
    assert_eq!(ids(&completion), expected);
    if expected.len() == 35 {
        assert_eq!(completion.finish_reason, FinishReason::Length);
    }
}

#[test]
fn who_finds_all_places_taken_is_told_to_come_back() {
    let config = Config { max_waiting: 2, max_running: 1, ..Config::default() };
    let engine = engine(config);
    let replies: Vec<_> = (0..20).map(|_| submit(&engine, request(&[1, 2], None, 60))).collect();
    let busy = replies.iter().filter(|reply| matches!(reply, Err(InferenceError::Busy(2)))).count();
    assert!((10..=18).contains(&busy), "{busy} of 20 were refused");
    for reply in replies.into_iter().flatten() {
        reply.end().unwrap();
    }
    // Places are given back.
    settle(&engine);
    complete(&engine, request(&[1, 2], None, 3)).unwrap();
}

#[test]
fn settings_that_could_not_work_are_refused_by_name() {
    let good = Config::default();
    for (setting, config) in [
        ("max_running", Config { max_running: 0, ..good }),
        ("max_waiting", Config { max_waiting: 0, ..good }),
        ("step_tokens", Config { step_tokens: 32, ..good }),
        ("kv_tokens", Config { kv_tokens: 1, ..good }),
        ("max_lora_rank", Config { max_lora_rank: 0, ..good }),
        ("max_lora_rank", Config { max_lora_rank: 513, ..good }),
    ] {
        let error = Engine::start(model(), "tiny", config).unwrap_err();
        assert!(matches!(error, EngineError::Config { setting: named, .. } if named == setting));
    }
}
