//! How surely planted copies of held-out cases are found, kind by kind.

use rand::seq::SliceRandom;

use super::*;

const CASES: usize = 300;

/// Distinct sentences of 5 to 30 words from a vocabulary large enough that none is near another.
fn sentences(seed: u64) -> Vec<String> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let word = |rng: &mut ChaCha8Rng| {
        format!("{}{}", WORDS[rng.random_range(0..24)], rng.random_range(0..40))
    };
    let sentence = |_| {
        let length = rng.random_range(5..=30);
        (0..length).map(|_| word(&mut rng)).collect::<Vec<_>>().join(" ")
    };
    (0..CASES).map(sentence).collect()
}

fn recall(prints: &SuiteFingerprints, copies: impl Iterator<Item = String>) -> f64 {
    let found = copies.filter(|text| prints.find(&[Message::user(text.as_str())]).is_some());
    found.count() as f64 / CASES as f64
}

#[test]
fn planted_copies_are_found_as_surely_as_promised() {
    let held_out = sentences(1);
    let prints = suite(&held_out.iter().map(String::as_str).collect::<Vec<_>>());
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    assert_eq!(recall(&prints, held_out.iter().cloned()), 1.0);
    let shouted = held_out.iter().map(|text| format!(" {}!", text.to_uppercase()));
    assert_eq!(recall(&prints, shouted), 1.0);
    let edits = held_out.iter().map(|text| {
        let mut words: Vec<&str> = text.split(' ').collect();
        let at = rng.random_range(0..words.len());
        match rng.random_range(0..3) {
            0 => words[at] = "altogether",
            1 => drop(words.remove(at)),
            _ => words.insert(at, "altogether"),
        }
        words.join(" ")
    });
    let edits: Vec<String> = edits.collect();
    assert!(recall(&prints, edits.into_iter()) >= 0.95);
    // Neither other sentences nor the same words in another order are copies.
    assert_eq!(recall(&prints, sentences(3).into_iter()), 0.0);
    let shuffled = held_out.iter().map(|text| {
        let mut words: Vec<&str> = text.split(' ').collect();
        words.shuffle(&mut rng);
        words.join(" ")
    });
    let shuffled: Vec<String> = shuffled.collect();
    assert!(recall(&prints, shuffled.into_iter()) <= 0.01);
}

#[test]
fn repetitions_within_a_suite_are_named() {
    let texts = [
        "where is my parcel today please",
        "reset it",
        "Where is my PARCEL today?  please",
        "where is our parcel today please",
        "reset",
    ];
    let case = |(nth, text): (usize, &&str)| Case {
        id: nth.to_string(),
        prompt: vec![Message::user(*text)],
        ..Case::default()
    };
    let cases = texts.iter().enumerate().map(case).collect();
    let suite = Suite { name: task(), tier: Tier::Dev, scorers: vec![Scorer::Exact], cases };
    let repeats = SuiteFingerprints::repeats_within(&suite);
    assert_eq!(repeats, [("2", "exact"), ("3", "one_word_apart")]);
}

#[test]
fn a_version_that_holds_a_later_case_is_recognised() {
    let asked = ["where is my parcel today please", "reset my password"];
    let steps = asked.iter().map(|text| with(step(text, text, text, "bad"), edit("good")));
    let (_root, frozen) = freeze(&try_build(&all_train(), &[], steps).unwrap());
    let found = frozen.contamination(&suite(&["Where is my parcel today, please?"])).unwrap();
    // One to imitate and one to prefer.
    assert_eq!((found.rows, found.reasons.get("exact")), (2, Some(&2)));
    let clean = frozen.contamination(&suite(&["something else entirely"])).unwrap();
    assert_eq!((clean.rows, clean.reasons.len()), (0, 0));
}
