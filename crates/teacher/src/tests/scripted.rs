use std::time::{Duration, Instant};

use understudy_inference::{FinishReason, InferenceError, Usage};

use super::{ask, run, run_until};
use crate::ScriptedTeacher;

fn echo() -> ScriptedTeacher {
    ScriptedTeacher::new("expert", |messages| {
        messages.last().map(understudy_message::Message::text).ok_or(InferenceError::ShuttingDown)
    })
    .unwrap()
}

#[test]
fn the_function_answers_in_words() {
    let outcome = run(&echo(), ask("one two three"));
    assert_eq!(outcome.deltas, ["one ", "two ", "three"]);
    let completion = outcome.completion();
    assert_eq!(completion.text, "one two three");
    assert_eq!(
        completion.usage,
        Usage { prompt_tokens: 4, completion_tokens: 4, cached_tokens: 0 }
    );
    assert_eq!(run_until(&echo(), ask("one two three"), 2).deltas.len(), 2);
}

#[test]
fn limits_cut_the_answer_as_a_models() {
    let mut request = ask("abcdefgé rest");
    request.sampling.max_tokens = 2;
    let completion = run(&echo(), request.clone()).completion();
    assert_eq!(
        (completion.text.as_str(), completion.finish_reason),
        ("abcdefg", FinishReason::Length)
    );
    request.sampling.stop = vec!["never".to_owned(), "de".to_owned()];
    let completion = run(&echo(), request).completion();
    assert_eq!((completion.text.as_str(), completion.finish_reason), ("abc", FinishReason::Stop));
}

#[test]
fn errors_panics_and_delays_stay_with_their_request() {
    let teacher = ScriptedTeacher::new("expert", |messages| match messages[0].text().as_str() {
        "fail" => Err(InferenceError::Failed("no".to_owned())),
        "panic" => panic!("a bug in the script"),
        text => Ok(text.to_owned()),
    })
    .unwrap()
    .with_delay(Duration::from_millis(50));
    assert_eq!(run(&teacher, ask("fail")).error(), InferenceError::Failed("no".to_owned()));
    for _ in 0..8 {
        assert!(matches!(run(&teacher, ask("panic")).error(), InferenceError::Failed(_)));
    }
    let begun = Instant::now();
    assert_eq!(run(&teacher, ask("fine")).completion().text, "fine");
    assert!(begun.elapsed() >= Duration::from_millis(50));
}
