use std::error::Error;

use super::*;
use crate::{Builder, Tokens};

const ENGLISH: &str = "Your parcel left our warehouse yesterday and should be with you on Friday.";
const GERMAN: &str = "Ihr Paket hat gestern unser Lager verlassen und sollte am Freitag ankommen.";

/// A token a word.
#[derive(Debug)]
struct Words;

impl Tokens for Words {
    fn tokenizer(&self) -> String {
        "words".to_owned()
    }

    fn count(&self, text: &str) -> Result<u64, Box<dyn Error + Send + Sync>> {
        Ok(text.split_whitespace().count() as u64)
    }
}

fn build_of<'a>(data: &'a Data, task: &'a TaskName) -> Builder<'a> {
    let now = at(86_400_000);
    let request = Request { task, data, seed: 17, sources: &[], suites: &[], now };
    Builder::new(request, &std::env::temp_dir()).unwrap()
}

fn built(data: &Data, steps: impl IntoIterator<Item = JudgedStep>) -> Draft {
    let task = task();
    let mut builder = build_of(data, &task).counting(&Words);
    trajectories(steps).into_iter().try_for_each(|one| builder.add(one)).unwrap();
    builder.finish().unwrap()
}

fn accepted(name: &str, prompt: &str, reply: &str) -> JudgedStep {
    with(step(name, name, prompt, reply), Signal::Accept)
}

fn imitated(draft: &Draft) -> Vec<String> {
    let (_root, frozen) = freeze(draft);
    let rows = frozen.sft(Split::Train).unwrap();
    rows.iter().map(|row| row.completion[0].text()).collect()
}

#[test]
fn what_is_told_to_be_in_another_language_is_left_out_and_counted() {
    let edited = with(step("d", "d", "Where is it?", "It has left our warehouse"), edit(GERMAN));
    let steps = || {
        let one = accepted("a", "Where is it?", ENGLISH);
        let other = accepted("b", "Wo ist es?", GERMAN);
        let short = accepted("c", "Is it late?", "OK");
        [one, other, short, edited.clone()]
    };
    let english = Data { languages: vec!["en".to_owned()], ..all_train() };
    let draft = built(&english, steps());
    assert_eq!(imitated(&draft), [ENGLISH, "OK"], "what cannot be told stays");
    assert_eq!(count(&draft, "filter", "other_language"), 2);
    assert_eq!(count(&draft, "filter", "language_unknown"), 1);
    let both = Data { languages: vec!["de".to_owned(), "en".to_owned()], ..all_train() };
    assert_eq!(count(&built(&both, steps()), "filter", "other_language"), 0);
    assert_eq!(count(&built(&all_train(), steps()), "filter", "language_unknown"), 0);
}

#[test]
fn lengths_are_in_tokens_of_the_base_and_an_edit_is_held_to_them_too() {
    let data = Data {
        max_prompt_tokens: Some(6),
        min_reply_tokens: Some(2),
        max_reply_tokens: Some(4),
        ..all_train()
    };
    // Every prompt has the one word of the system's.
    let draft = built(
        &data,
        [
            accepted("a", "one two three four five", "just as long"),
            accepted("b", "one two three four five six", "asked too long"),
            accepted("c", "one", "short"),
            accepted("d", "one", "one two three four five"),
            with(step("e", "e", "one", "not too long"), edit("not too long for a while")),
        ],
    );
    assert_eq!(imitated(&draft), ["just as long"]);
    for (why, times) in [("prompt_too_long", 1), ("reply_too_short", 1), ("reply_too_long", 2)] {
        assert_eq!((why, count(&draft, "filter", why)), (why, times));
    }
    assert_eq!(draft.manifest().tokenizer.as_deref(), Some("words"));
    let unlimited = built(&all_train(), [accepted("a", "one", "short")]);
    assert_eq!(unlimited.manifest().tokenizer, None);
}

#[test]
fn limits_in_tokens_that_nobody_counts_are_refused() {
    let (data, task) = (Data { max_reply_tokens: Some(4), ..all_train() }, task());
    let mut builder = build_of(&data, &task);
    let one = trajectories([accepted("a", "one", "short")]).remove(0);
    assert!(matches!(builder.add(one).unwrap_err(), DatasetError::NoTokenizer));
}

#[test]
fn explain_says_why_a_step_is_filtered() {
    let (data, task) = (Data { languages: vec!["en".to_owned()], ..all_train() }, task());
    let mut builder = build_of(&data, &task).following("chatcmpl-b");
    let steps = [accepted("a", "p", ENGLISH), accepted("b", "p", GERMAN)];
    trajectories(steps).into_iter().try_for_each(|one| builder.add(one)).unwrap();
    let verdicts = builder.explain().unwrap();
    let filtered = verdicts.iter().find(|one| one.stage == "filter").unwrap();
    assert_eq!(filtered.what, "left out: other_language");
}

#[test]
fn an_edit_that_changes_the_language_teaches_nothing() {
    let judged = with(step("s", "a", "Where is it?", ENGLISH), edit(GERMAN));
    let other = accepted("b", "Is it late?", "No, it is not.");
    let draft = built(&all_train(), [judged, other]);
    assert_eq!(count(&draft, "build", "edit_changes_language"), 1);
    assert_eq!(imitated(&draft), ["No, it is not."]);
    let (_root, frozen) = freeze(&draft);
    assert_eq!(frozen.pairs(Split::Train).unwrap(), []);
}
