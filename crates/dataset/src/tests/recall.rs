//! How surely planted copies of held-out cases are found, kind by kind.

use rand::seq::SliceRandom;
use understudy_inference::{Embedder, InferenceError};

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
    // Other sentences are no copies; the same words in another order are.
    assert_eq!(recall(&prints, sentences(3).into_iter()), 0.0);
    let shuffled = held_out.iter().map(|text| {
        let mut words: Vec<&str> = text.split(' ').collect();
        words.shuffle(&mut rng);
        words.join(" ")
    });
    let shuffled: Vec<String> = shuffled.collect();
    assert_eq!(recall(&prints, shuffled.into_iter()), 1.0);
}

/// "Find animated movies close by" is "find movies close by" to whoever measures.
#[test]
fn a_case_is_known_by_four_fifths_of_its_words_and_not_by_three() {
    let prints = suite(&["one two three four five six seven eight"]);
    let how = |text: &str| prints.find(&[Message::user(text)]);
    assert_eq!(how("eight seven nine six five four three ten two one"), Some("same_words"));
    assert_eq!(how("eight seven nine six five four three ten two"), None);
    let prints = suite(&["find animated movies close by"]);
    assert_eq!(prints.find(&[Message::user("find movies close by")]), Some("same_words"));
}

#[test]
fn a_piece_of_a_long_case_is_known_unless_it_is_its_templates() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let words = |rng: &mut ChaCha8Rng, count| -> Vec<String> {
        (0..count)
            .map(|_| format!("{}{}", WORDS[rng.random_range(0..24)], rng.random_range(0..99)))
            .collect()
    };
    let long = words(&mut rng, 80);
    let prints = suite(&[&long.join(" ")]);
    let quoting = |prints: &SuiteFingerprints, piece: &[String], rng: &mut ChaCha8Rng| {
        let text = [words(rng, 40), piece.to_vec(), words(rng, 40)].concat().join(" ");
        prints.find(&[Message::user(text)])
    };
    assert_eq!(quoting(&prints, &long[30..43], &mut rng), Some("piece"));
    assert_eq!(quoting(&prints, &long[30..42], &mut rng), None);
    // Of a shorter case it takes half of its runs of eight, of which this has 33.
    let shorter = suite(&[&long[..40].join(" ")]);
    assert_eq!(quoting(&shorter, &long[10..34], &mut rng), Some("piece"));
    assert_eq!(quoting(&shorter, &long[10..33], &mut rng), None);
    let short = suite(&[&long[..15].join(" ")]);
    assert_eq!(quoting(&short, &long[..15], &mut rng), None, "anybody may say it");
    let cases: Vec<String> =
        (0..3).map(|_| [long.clone(), words(&mut rng, 90)].concat().join(" ")).collect();
    let templated = suite(&cases.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(quoting(&templated, &long[30..60], &mut rng), None);
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
    let suite = Suite {
        name: task(),
        tier: Tier::Dev,
        scorers: vec![Scorer::Exact],
        rubrics: Vec::new(),
        cases,
    };
    let repeats = SuiteFingerprints::repeats_within(&suite);
    assert_eq!(repeats, [("2", "exact"), ("3", "one_word_apart")]);
}

#[test]
fn a_version_that_holds_a_later_case_is_recognised() {
    let asked = ["where is my parcel today please", "reset my password"];
    let steps =
        asked.iter().map(|text| with(step(text, text, text, "the bad one"), edit("the good one")));
    let (_root, frozen) = freeze(&try_build(&all_train(), &[], steps).unwrap());
    let found = frozen.contamination(&suite(&["Where is my parcel today, please?"]), None).unwrap();
    // One to imitate and one to prefer.
    assert_eq!((found.rows, found.reasons.get("exact")), (2, Some(&2)));
    let clean = frozen.contamination(&suite(&["something else entirely"]), None).unwrap();
    assert_eq!((clean.rows, clean.reasons.len()), (0, 0));
}

/// Knows that two questions are one: its vectors are of the thing that is asked about.
#[derive(Debug)]
struct Things;

impl Embedder for Things {
    fn name(&self) -> &'static str {
        "things"
    }

    fn dimensions(&self) -> usize {
        2
    }

    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, InferenceError> {
        let vector = |text: &&str| {
            let about_parcels = text.contains("parcel") || text.contains("delivery");
            if about_parcels { vec![0.6, 0.8] } else { vec![0.8, -0.6] }
        };
        Ok(texts.iter().map(vector).collect())
    }
}

#[test]
fn a_version_that_holds_a_later_case_in_other_words_is_recognised_by_meaning() {
    let asked = ["when does the delivery come at last", "reset my password"];
    let steps =
        asked.iter().map(|text| with(step(text, text, text, "the bad one"), edit("the good one")));
    let (_root, frozen) = freeze(&try_build(&all_train(), &[], steps).unwrap());
    let cases = "where is my parcel";
    let prints = suite(&[cases]);
    assert_eq!(frozen.contamination(&prints, None).unwrap().rows, 0, "words do not tell");
    let case = Case { prompt: vec![Message::user(cases)], ..Case::default() };
    let held_out = Suite {
        name: task(),
        tier: Tier::Dev,
        scorers: vec![Scorer::Exact],
        rubrics: Vec::new(),
        cases: vec![case],
    };
    let meanings = SuiteMeanings::of(&held_out, &Things).unwrap();
    let found = frozen.contamination(&prints, Some(&meanings)).unwrap();
    assert_eq!((found.rows, found.reasons.get("meaning")), (2, Some(&2)), "{found:?}");
    // What words tell already is not counted twice.
    let exact = suite(&["when does the delivery come at last"]);
    let found = frozen.contamination(&exact, Some(&meanings)).unwrap();
    assert_eq!((found.rows, found.reasons.get("meaning")), (2, None), "{found:?}");
}
