//! What the guard finds in a public data set: copies planted by us, and repetitions between its own
//! splits. Each file has rows with a `text`.
//!
//! `cargo run --release -p understudy-dataset --example guard -- test.jsonl train.jsonl`

use std::{collections::BTreeMap, io::Write};

use understudy_dataset::SuiteFingerprints;
use understudy_manifest::{Case, Scorer, Suite, Tier};
use understudy_message::Message;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let mut file = || arguments.next().ok_or("name the held-out file and the training file");
    let (held_out, training) = (texts(&file()?)?, texts(&file()?)?);
    let suite = suite(&held_out)?;
    let prints = SuiteFingerprints::of(&suite);
    let mut out = std::io::stdout().lock();

    let found = |text: &str| prints.find(&[Message::user(text)]).is_some();
    let recall = |change: &dyn Fn(&str) -> String, least: usize| {
        let long = held_out.iter().filter(|text| text.split_whitespace().count() >= least);
        let (mut all, mut hits) = (0, 0);
        for text in long {
            (all, hits) = (all + 1, hits + usize::from(found(&change(text))));
        }
        format!("{hits} of {all} ({:.3})", f64::from(hits as u32) / f64::from(all.max(1) as u32))
    };
    writeln!(out, "planted exact copies found: {}", recall(&str::to_owned, 0))?;
    writeln!(out, "with case changed: {}", recall(&str::to_uppercase, 0))?;
    writeln!(out, "with one word changed, 5 words or more: {}", recall(&one_word_changed, 5))?;
    writeln!(out, "with one word changed, any length: {}", recall(&one_word_changed, 0))?;
    writeln!(out, "with words in reverse order: {}", recall(&reversed, 0))?;

    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for how in training.iter().filter_map(|text| prints.find(&[Message::user(text.as_str())])) {
        *reasons.entry(how).or_default() += 1;
    }
    writeln!(out, "training rows that repeat a case: {reasons:?} of {}", training.len())?;
    let within = SuiteFingerprints::repeats_within(&suite).len();
    writeln!(out, "cases that repeat another case: {within} of {}", held_out.len())?;
    let trained = SuiteFingerprints::of(&self::suite(&training)?);
    let known =
        held_out.iter().filter(|text| trained.find(&[Message::user(text.as_str())]).is_some());
    writeln!(out, "cases that a training row repeats: {} of {}", known.count(), held_out.len())?;
    Ok(())
}

fn texts(path: &str) -> Result<Vec<String>, Failure> {
    let text = std::fs::read_to_string(path)?;
    let row = |line: &str| -> Result<String, Failure> {
        let row: serde_json::Value = serde_json::from_str(line)?;
        Ok(row["text"].as_str().ok_or("a row has no `text`")?.to_owned())
    };
    text.lines().map(row).collect()
}

fn suite(texts: &[String]) -> Result<Suite, Failure> {
    let case = |(nth, text): (usize, &String)| Case {
        id: nth.to_string(),
        prompt: vec![Message::user(text.as_str())],
        ..Case::default()
    };
    Ok(Suite {
        name: "guard".parse()?,
        tier: Tier::Sealed,
        scorers: vec![Scorer::Exact],
        rubrics: Vec::new(),
        cases: texts.iter().enumerate().map(case).collect(),
    })
}

fn one_word_changed(text: &str) -> String {
    let mut words: Vec<&str> = text.split_whitespace().collect();
    let middle = words.len() / 2;
    if let Some(word) = words.get_mut(middle) {
        *word = "altogether";
    }
    words.join(" ")
}

fn reversed(text: &str) -> String {
    text.split_whitespace().rev().collect::<Vec<_>>().join(" ")
}
