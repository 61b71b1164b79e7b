//! Near-duplicates: which rows are, which are not, and that they never straddle the splits.

use std::collections::BTreeSet;

use crate::minhash::{self, Side, Sketch};

use super::*;

/// Words that no other text of the same length is likely to have.
fn words(rng: &mut ChaCha8Rng, length: usize) -> Vec<String> {
    let word = |rng: &mut ChaCha8Rng| -> String {
        (0..rng.random_range(4..9)).map(|_| char::from(rng.random_range(b'a'..=b'z'))).collect()
    };
    (0..length).map(|_| word(rng)).collect()
}

/// One word changed, added or lost.
fn one_word_edited(rng: &mut ChaCha8Rng, words: &[String]) -> String {
    let mut words = words.to_vec();
    let at = rng.random_range(0..words.len());
    match rng.random_range(0..3) {
        0 => words[at] = "altogether".to_owned(),
        1 => drop(words.remove(at)),
        _ => words.insert(at, "altogether".to_owned()),
    }
    words.join(" ")
}

fn sketch_of(turn: &str, answer: &str, rejected: Option<&str>) -> Sketch {
    let rejected = rejected.map(Side::of);
    Sketch::of(&Side::of(turn), &Side::of(answer), rejected.as_ref())
}

fn ties(sketches: &[Sketch]) -> Vec<(usize, usize)> {
    minhash::ties(sketches.len(), |nth| Some((0, &sketches[nth])))
}

#[test]
fn long_texts_with_a_word_edited_on_either_side_are_near() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut sketches = Vec::new();
    for _ in 0..300 {
        let (turn, answer) = (words(&mut rng, 120), words(&mut rng, 120));
        sketches.push(sketch_of(&turn.join(" "), &answer.join(" "), None));
        let edited = [&turn, &answer].map(|text| one_word_edited(&mut rng, text));
        sketches.push(sketch_of(&edited[0], &edited[1], None));
    }
    let found = ties(&sketches);
    let planted = found.iter().filter(|(one, other)| one / 2 == other / 2).count();
    assert!(planted >= 297, "{planted} of 300");
    assert_eq!(planted, found.len(), "nothing else is near");
    assert_eq!(found, ties(&sketches), "and always the same ones");
}

#[test]
fn distinct_texts_are_not_near_whatever_they_have_in_common() {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    // Of 24 words, so that any two share many; and all of them have one of three answers.
    let answers = ["refund", "{\"intent\": \"BookRestaurant\", \"slots\": {}}", "please call us"];
    let mut texts = BTreeSet::new();
    for length in [6, 12, 25, 60] {
        texts.extend((0..300).map(|_| sentence(&mut rng, length)));
    }
    let sketch = |(nth, text): (usize, &String)| sketch_of(text, answers[nth % 3], None);
    let sketches: Vec<Sketch> = texts.iter().enumerate().map(sketch).collect();
    assert_eq!(ties(&sketches), []);
    // The same question with as many answers.
    let sketch = |text: &String| sketch_of("what does it say", text, None);
    let sketches: Vec<Sketch> = texts.iter().map(sketch).collect();
    assert_eq!(ties(&sketches), []);
    // Numbers make a question another one, where there is little else in it.
    let sums = (0..50).map(|n| sketch_of(&format!("how much is {n} and {n}"), "I know", None));
    assert_eq!(ties(&sums.collect::<Vec<_>>()), []);
    let pairs = ["first", "another reply"].map(|no| sketch_of("the question is", "yes", Some(no)));
    assert_eq!(ties(&pairs), [], "what is not to be said is another thing");
}

/// Two templates a session, with a word of its own in each.
fn templated(count: i64) -> Vec<JudgedStep> {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let (asked, said) = (sentence(&mut rng, 60), sentence(&mut rng, 60));
    let mut steps = Vec::new();
    for nth in 0..count {
        let name = nth.to_string();
        let own = words(&mut rng, 2);
        let (asked, said) = (format!("{} {asked}", own[0]), format!("{said} {}", own[1]));
        steps.push(later(with(step(&name, &name, &asked, &said), Signal::Accept), nth));
        let other = format!("{name} too");
        let (asked, said) = (words(&mut rng, 9).join(" "), words(&mut rng, 9).join(" "));
        steps.push(later(with(step(&other, &other, &asked, &said), Signal::Accept), nth));
    }
    steps
}

#[test]
fn the_oldest_of_near_duplicates_stays_and_the_others_are_counted() {
    let data = Data { dedupe: Dedupe::Near, ..all_train() };
    let draft = try_build(&data, &[], templated(20)).unwrap();
    assert_eq!(count(&draft, "dedupe", "near"), 38, "to imitate and labels, but for the oldest");
    let (_root, frozen) = freeze(&draft);
    let rows = frozen.sft(Split::Train).unwrap();
    assert_eq!(rows.len(), 21);
    assert_eq!(rows[0].origin.steps, [StepId::derived("0").to_string()]);
    // A label that says the opposite is no repetition.
    let mut steps = templated(2);
    steps[2].outcomes[0].signal = Signal::Abandon;
    let draft = try_build(&data, &[], steps).unwrap();
    assert_eq!(count(&draft, "dedupe", "near"), 0);
    let data = Data { dedupe: Dedupe::Exact, ..all_train() };
    let draft = try_build(&data, &[], templated(20)).unwrap();
    assert_eq!((count(&draft, "dedupe", "near"), count(&draft, "dedupe", "sft")), (0, 0));
}

#[test]
fn near_duplicates_that_are_kept_are_on_one_side_and_the_manifest_says_so() {
    let data = Data { dedupe: Dedupe::Exact, holdout: 0.5, ..Data::default() };
    let draft = try_build(&data, &[], templated(40)).unwrap();
    assert_eq!(count(&draft, "split", "largest_component"), 80, "two rows of each");
    assert_eq!(count(&draft, "split", "components"), 41);
    let manifest = draft.manifest();
    assert!(manifest.rows("sft.dev.jsonl") > 10 && manifest.rows("sft.train.jsonl") > 10);
    let leakage = manifest.leakage.as_ref().unwrap();
    assert_eq!(leakage.len(), 6);
    assert!(leakage.values().all(|count| *count == 0), "{leakage:?}");
    let (_root, frozen) = freeze(&draft);
    let card = std::fs::read_to_string(frozen.dir().join("README.md")).unwrap();
    assert!(
        card.contains("- In both splits: 0 near_duplicates, 0 problems, 0 prompts, 0 sessions"),
        "{card}"
    );
}

#[test]
fn a_short_turn_means_what_was_said_before_it() {
    let confirmed = |name: &str, asked: &str| {
        let mut judged = with(step(name, name, asked, "It is done."), Signal::Accept);
        judged.step.prompt.extend([Message::assistant("Shall I?"), Message::user("Yes, do")]);
        judged
    };
    let data = Data { dedupe: Dedupe::Near, ..all_train() };
    let asked = ["cancel my order from last week", "close the account of my late father"];
    let steps = asked.map(|asked| confirmed(asked, asked));
    assert_eq!(try_build(&data, &[], steps).unwrap().manifest().rows("sft.train.jsonl"), 2);
}
