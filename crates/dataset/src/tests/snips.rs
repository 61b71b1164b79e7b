//! What the guard finds in a public data set that is known to repeat its test cases.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::*;

fn texts(name: &str) -> Option<Vec<String>> {
    let text = public_data(&format!("snips/{name}"))?;
    let row = |line: &str| serde_json::from_str::<Value>(line).unwrap();
    Some(text.lines().map(|line| row(line)["text"].as_str().unwrap().to_owned()).collect())
}

fn word_set(text: &str) -> BTreeSet<String> {
    let text = text.to_lowercase();
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
}

/// Finds cases that share four fifths of their words with a text, by comparing it with every one
/// that shares any.
struct Cases {
    sets: Vec<BTreeSet<String>>,
    with: BTreeMap<String, Vec<usize>>,
}

impl Cases {
    fn of(texts: &[&str]) -> Self {
        let sets: Vec<_> = texts.iter().map(|text| word_set(text)).collect();
        let mut with: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (nth, set) in sets.iter().enumerate() {
            for word in set {
                with.entry(word.clone()).or_default().push(nth);
            }
        }
        Self { sets, with }
    }

    fn like(&self, text: &str) -> Vec<usize> {
        let own = word_set(text);
        let mut shared: BTreeMap<usize, usize> = BTreeMap::new();
        for nth in own.iter().filter_map(|word| self.with.get(word)).flatten() {
            *shared.entry(*nth).or_default() += 1;
        }
        let is_like = |(nth, both): &(usize, usize)| {
            *both as f64 >= 0.8 * (own.len() + self.sets[*nth].len() - both) as f64
        };
        shared.into_iter().filter(is_like).map(|(nth, _)| nth).collect()
    }
}

#[test]
fn the_repeated_cases_of_snips_are_found() {
    let (Some(train), Some(test)) = (texts("train.jsonl"), texts("test.jsonl")) else { return };
    let test: Vec<&str> = test.iter().map(String::as_str).collect();
    let cases = Cases::of(&test);
    let repeated: BTreeSet<usize> = train.iter().flat_map(|text| cases.like(text)).collect();
    assert!(repeated.len() >= 42, "{} cases are repeated", repeated.len());
    let steps = train.iter().enumerate().map(|(nth, text)| {
        let name = nth.to_string();
        with(step(&name, &name, text, "{}"), Signal::Accept)
    });
    let draft = try_build(&all_train(), &[suite(&test)], steps).unwrap();
    let stage = draft.manifest().stages.iter().find(|s| s.stage == "decontaminate").unwrap();
    println!("of {} rows: {:?}; {} cases repeated", stage.rows_in, stage.reasons, repeated.len());
    // A label beside each row to imitate, hence two rows a text.
    let repeats = count(&draft, "decontaminate", "exact") / 2;
    assert!(repeats >= 15, "{repeats}");
    let dropped = (stage.rows_in - stage.rows_out) as f64 / stage.rows_in as f64;
    assert!(dropped < 0.03, "{dropped} of the rows were taken for copies");
    let (_root, frozen) = freeze(&draft);
    for row in frozen.sft(Split::Train).unwrap() {
        let text = row.prompt[1].text();
        let like: Vec<&str> = cases.like(&text).into_iter().map(|nth| test[nth]).collect();
        assert!(like.is_empty(), "{text:?} was kept beside {like:?}");
    }
}
